// Pictures as files of raw pixels: HEIGHT x WIDTH x 3 bytes, BGR.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <facedeploy/arrays.hpp>

#include "files.hpp"

namespace runner {

constexpr int largest_side = 65535;
constexpr std::size_t most_bytes = std::size_t{1} << 30;

struct RawFile {
    std::string path;
    int height = 0;
    int width = 0;
};

struct Pixels {
    std::vector<std::uint8_t> bytes;
    int height = 0;
    int width = 0;

    facedeploy::Picture view() const {
        return {bytes.data(), height, width, static_cast<std::size_t>(width) * 3, facedeploy::PixelFormat::bgr};
    }
};

// Nothing where the file is not exactly so large; `problem` says so.
inline std::optional<Pixels> read_picture(const RawFile& file, std::string& problem) {
    const std::uint64_t size = std::uint64_t{3} * static_cast<std::uint64_t>(file.height) *
                               static_cast<std::uint64_t>(file.width);
    if (size <= most_bytes) {
        auto bytes = read_file(file.path, static_cast<std::size_t>(size), static_cast<std::size_t>(size));
        if (bytes) return Pixels{std::move(*bytes), file.height, file.width};
    }
    problem = file.path + " is missing or is not " + std::to_string(file.height) + " x " + std::to_string(file.width) +
              " x 3 bytes, at most a gigabyte";
    return std::nullopt;
}

}  // namespace runner
