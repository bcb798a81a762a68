// runner detect: faces of pictures, a line each.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "detector.hpp"
#include "json.hpp"
#include "lines.hpp"
#include "pictures.hpp"
#include "request.hpp"

namespace runner {

inline int refuse(const std::string& what) {
    std::fprintf(stderr, "runner: %s\n", what.c_str());
    return 2;
}

// words: FOLDER THREADS FILE HEIGHT WIDTH [FILE HEIGHT WIDTH]... The exit status.
inline int detect(const std::vector<std::string>& words) {
    int threads = 0;
    if (!read_integer(words[1], 1, most_threads, threads)) return refuse("THREADS must lie between 1 and 1024");
    Detector detector;
    if (const std::string problem = detector.open(words[0], threads); !problem.empty()) return refuse(problem);
    for (std::size_t i = 2; i < words.size(); i += 3) {
        RawFile file{words[i], 0, 0};
        if (!read_integer(words[i + 1], 1, largest_side, file.height) ||
            !read_integer(words[i + 2], 1, largest_side, file.width)) {
            return refuse("HEIGHT and WIDTH must lie between 1 and 65535");
        }
        std::string problem;
        const auto picture = read_picture(file, problem);
        if (!picture) return refuse(problem);
        const auto found = detector.detect(picture->view());
        if (!found) return refuse(file.path + ": " + facedeploy::message(found.status));
        std::printf("{\"image\": %s, \"width\": %d, \"height\": %d, \"faces\": %s}\n", in_quotes(file.path).c_str(),
                    file.width, file.height, json(found.value).c_str());
    }
    return 0;
}

}  // namespace runner
