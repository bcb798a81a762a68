// What `runner measure` is asked: lines in this order, of which `artifact` and `picture` come once or more.
//
//     facedeploy 1
//     threads 4
//     rounds 10                    0: every picture once, and nothing is measured; -1: as `seconds` and `fewest` say
//     seconds 0.6
//     fewest 2
//     steady 0.05
//     window 5
//     cap 2.0
//     turn 8
//     seed 12345
//     beat 10                      seconds between signs of life on standard error
//     silence 60                   seconds without one on standard input after which it ends
//     limit 3600                   seconds after which it ends
//     artifact FOLDER
//     picture HEIGHT WIDTH FILE
//     end
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lines.hpp"
#include "measure.hpp"
#include "pictures.hpp"

namespace runner {

constexpr int most_threads = 1024;
constexpr std::size_t most_artifacts = 1000;
constexpr std::size_t most_pictures = 100000;
constexpr std::size_t most_numbers = std::size_t{1} << 24;  // of times, in an answer

struct Request {
    int threads = 1;
    Rules rules;
    double beat = 10;
    double silence = 60;
    double limit = 3600;
    std::vector<std::string> artifacts;
    std::vector<RawFile> pictures;
};

namespace detail {

inline void read_picture_line(Lines& lines, Request& request) {
    const std::string_view line = lines.text("picture");
    const std::size_t first = std::min(line.find(' '), line.size());
    const std::size_t second = std::min(line.find(' ', std::min(first + 1, line.size())), line.size());
    RawFile file;
    const bool sized = read_integer(line.substr(0, first), 1, largest_side, file.height) &&
                       read_integer(line.substr(std::min(first + 1, second), second - std::min(first + 1, second)), 1,
                                    largest_side, file.width);
    if (!sized || second + 1 >= line.size()) {
        lines.fail("a picture is not HEIGHT WIDTH FILE, with sides from 1 to 65535");
        return;
    }
    file.path = std::string(line.substr(second + 1));
    request.pictures.push_back(std::move(file));
}

}  // namespace detail

// What is wrong; empty where nothing is.
inline std::string read_request(std::string_view text, Request& request) {
    constexpr int many = 1000000;
    constexpr double long_time = 1e6;
    constexpr double moment = 1e-3;
    Lines lines(text);
    Rules& rules = request.rules;
    lines.only("facedeploy 1");
    request.threads = lines.integer("threads", 1, most_threads);
    rules.rounds = lines.integer("rounds", -1, many);
    rules.seconds = lines.real("seconds", 0, long_time);
    rules.fewest = lines.integer("fewest", 1, many);
    rules.steady = lines.real("steady", 0, 1);
    rules.window = lines.integer<std::size_t>("window", 1, 1000);
    rules.cap = lines.real("cap", 0, long_time);
    rules.turn = lines.integer<std::size_t>("turn", 1, many);
    rules.seed = lines.integer<std::uint64_t>("seed", 0, std::numeric_limits<std::uint64_t>::max());
    request.beat = lines.real("beat", moment, long_time);
    request.silence = lines.real("silence", moment, long_time);
    request.limit = lines.real("limit", moment, long_time);
    while (lines.next_is("artifact")) {
        request.artifacts.emplace_back(lines.text("artifact"));
        if (request.artifacts.size() > most_artifacts) lines.fail("there are more than 1000 artifacts");
    }
    while (lines.next_is("picture")) {
        detail::read_picture_line(lines, request);
        if (request.pictures.size() > most_pictures) lines.fail("there are more than 100000 pictures");
    }
    if (request.artifacts.empty() || request.pictures.empty()) lines.fail("there is no artifact, or no picture");
    const std::size_t of_a_round = 4 * request.artifacts.size() * request.pictures.size();
    if (of_a_round > 0 && rules.rounds > static_cast<std::int64_t>(most_numbers / of_a_round)) {
        lines.fail("there would be too many times to answer: ask for fewer rounds");
    }
    lines.only("end");
    lines.end();
    return lines.problem();
}

}  // namespace runner
