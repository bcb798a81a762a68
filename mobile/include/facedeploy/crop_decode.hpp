// From what a network says of a crop to points, angles, embedding and probabilities. Sizes are checked, and all numbers
// are finite.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "arrays.hpp"
#include "crop_config.hpp"

namespace facedeploy {
namespace detail {

// The largest cell of a map, moved by a quarter of a cell to the larger of two neighbours, but not across an edge.
inline Point peak(const float* map, std::size_t rows, std::size_t columns) {
    const auto cell = static_cast<std::size_t>(std::max_element(map, map + rows * columns) - map);
    const auto moved = [map, cell](std::size_t place, std::size_t count, std::size_t step) {
        double position = static_cast<double>(place) + 0.5;
        if (place > 0 && place + 1 < count) {
            const float before = map[cell - step];
            const float after = map[cell + step];
            position += after > before ? 0.25 : after < before ? -0.25 : 0.0;
        }
        return position / static_cast<double>(count);
    };
    return {moved(cell % columns, columns, 1), moved(cell / columns, rows, columns)};
}

// Point `i`, in pixels of the network's input.
inline Point point(const PointsConfig& config, const float* numbers, const Input& input, std::size_t i) {
    const double width = input.width;
    const double height = input.height;
    if (config.points_in == PointsIn::heatmaps) {
        const auto rows = static_cast<std::size_t>(config.rows);
        const auto columns = static_cast<std::size_t>(config.columns);
        const Point found = peak(numbers + i * rows * columns, rows, columns);
        return {found.x * width, found.y * height};
    }
    const float* from = numbers + config.first;
    const auto count = static_cast<std::size_t>(config.count);
    const auto values = static_cast<std::size_t>(config.values);
    const bool planes = config.order == Order::planes;
    double x = planes ? from[i] : from[i * values];
    double y = planes ? from[count + i] : from[i * values + 1];
    if (config.order == Order::yx) std::swap(x, y);
    if (config.points_in == PointsIn::pixels) return {x, y};
    if (config.points_in == PointsIn::unit) return {x * width, y * height};
    return {(x + 1) / 2 * width, (y + 1) / 2 * height};
}

// The mean angle of bins of so many degrees around 0.
inline double expected(const float* logits, std::size_t count, double size) {
    const double largest = *std::max_element(logits, logits + count);
    double sum = 0;
    double weighted = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const double power = std::exp(logits[i] - largest);
        sum += power;
        weighted += power * static_cast<double>(i);
    }
    return (weighted / sum - static_cast<double>(count) / 2) * size;
}

using Vector = std::array<double, 3>;

inline Vector cross(const Vector& a, const Vector& b) {
    return {{a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]}};
}

inline Vector unit(const Vector& v) {
    const double length = std::max(std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]), 1e-12);
    return {{v[0] / length, v[1] / length, v[2] / length}};
}

inline double degrees(double radians) { return radians * (180.0 / 3.14159265358979323846); }

// Yaw, pitch and roll of a rotation, given by its columns.
inline Vector euler(const Vector& x, const Vector& y, const Vector& z) {
    const double level = std::hypot(x[0], x[1]);
    const bool gimbal = level < 1e-6;
    const double pitch = gimbal ? std::atan2(-z[1], y[1]) : std::atan2(y[2], z[2]);
    const double roll = gimbal ? 0.0 : std::atan2(x[1], x[0]);
    return {{degrees(std::atan2(-x[2], level)), degrees(pitch), degrees(roll)}};
}

inline Vector rotation(Form form, const float* n) {
    const auto vector = [n](std::size_t a, std::size_t b, std::size_t c) { return Vector{{n[a], n[b], n[c]}}; };
    if (form == Form::matrix) return euler(vector(0, 3, 6), vector(1, 4, 7), vector(2, 5, 8));
    const Vector x = unit(vector(0, 1, 2));
    const Vector z = unit(cross(x, vector(3, 4, 5)));
    return euler(x, cross(z, x), z);
}

// Angle `i` in the order of the outputs, which are one or three.
inline double angle(const PoseConfig& config, const std::array<Floats, 3>& outputs, std::size_t i) {
    const bool alone = config.outputs == 1;
    const auto first = static_cast<std::size_t>(alone ? config.first : 0);
    const float* numbers = outputs[alone ? 0 : i].data + first;
    if (config.form == Form::bins) {
        const std::size_t count = (static_cast<std::size_t>(config.size) - first) / (alone ? 3 : 1);
        return expected(numbers + (alone ? i * count : 0), count, config.bin_size);
    }
    const double value = numbers[alone ? i : 0];
    return config.form == Form::radians ? degrees(value) : value;
}

// Yaw, pitch and roll, degrees, with the signs of Face.
inline Vector pose(const PoseConfig& config, const std::array<Floats, 3>& outputs) {
    const std::array<AngleConfig, 3> each{{config.yaw, config.pitch, config.roll}};
    Vector found{};
    if (config.form == Form::columns || config.form == Form::matrix) {
        found = rotation(config.form, outputs[0].data + config.first);
    } else {
        for (std::size_t i = 0; i < 3; ++i) found[i] = angle(config, outputs, static_cast<std::size_t>(each[i].at));
    }
    for (std::size_t i = 0; i < 3; ++i) found[i] = each[i].negate ? -found[i] : found[i];
    return found;
}

inline void embedding(const EmbeddingConfig& config, const Floats& output, std::vector<float>& found) {
    double squares = 0;
    for (std::size_t i = 0; i < output.size; ++i) squares += static_cast<double>(output.data[i]) * output.data[i];
    const double length = config.normalise ? std::max(std::sqrt(squares), 1e-12) : 1.0;
    found.resize(output.size);
    for (std::size_t i = 0; i < output.size; ++i) found[i] = static_cast<float>(output.data[i] / length);
}

// Adds to those that are there.
inline void classes(const ClassesConfig& config, const Floats& output, std::vector<Class>& found) {
    const float* numbers = output.data + config.first;
    const std::size_t count = config.names.size();
    const double largest = *std::max_element(numbers, numbers + count);
    double sum = 0;
    for (std::size_t i = 0; i < count; ++i) sum += std::exp(numbers[i] - largest);
    for (std::size_t i = 0; i < count; ++i) {
        double share = numbers[i];
        if (config.activation == Activation::softmax) share = std::exp(share - largest) / sum;
        if (config.activation == Activation::sigmoid) share = 1 / (1 + std::exp(-std::clamp(share, -100.0, 100.0)));
        found.push_back({config.names[i], share});
    }
}

}  // namespace detail
}  // namespace facedeploy
