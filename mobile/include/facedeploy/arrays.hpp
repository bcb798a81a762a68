// Views of other people's memory, and the faces that come out.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace facedeploy {

enum class PixelFormat { bgr, rgb, bgra, rgba };

// 8-bit pixels, `stride` bytes from one row to the next. Alpha is not read.
struct Picture {
    const std::uint8_t* data = nullptr;
    int height = 0;
    int width = 0;
    std::size_t stride = 0;
    PixelFormat format = PixelFormat::bgr;
};

// `channels` planes of height x width floats, row after row, and `step` floats from one plane to the next.
template <class T>
struct Planes {
    T* data = nullptr;
    int channels = 0;
    int height = 0;
    int width = 0;
    std::size_t step = 0;
};
using Image = Planes<float>;
using Map = Planes<const float>;

struct Floats {
    const float* data = nullptr;
    std::size_t size = 0;
};

inline bool holds(const Floats& values, std::size_t count) {
    return values.size == count && (values.data != nullptr || count == 0);
}

inline bool finite(const float* values, std::size_t count) {
    bool all = true;
    for (std::size_t i = 0; i < count; ++i) all &= std::isfinite(values[i]);
    return all;
}

struct Point {
    double x = 0;
    double y = 0;
};

// x1, y1, x2, y2
using Box = std::array<double, 4>;

// A class of a network that looks at faces, by the name that the model has for it.
struct Class {
    const char* name = nullptr;
    double probability = 0;
};

// In pixels of the original picture; angles in degrees. What the model does not give is left empty.
struct Face {
    Box box{};
    float score = 0;
    std::vector<Point> landmarks;
    std::optional<float> yaw;
    std::optional<float> pitch;
    std::optional<float> roll;
    std::vector<float> embedding;
    std::vector<Class> classes;
};

// How many pixels of the network's input a pixel of the picture is.
struct Scale {
    double x = 1;
    double y = 1;
};

}  // namespace facedeploy
