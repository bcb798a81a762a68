// From a picture to the network's input. The resize has the arithmetic of OpenCV's INTER_LINEAR on 8 bits
// (modules/imgproc/src/resize.cpp): weights of 11 bits, columns first, so that the pixels are those that the network
// was measured with.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "config.hpp"
#include "status.hpp"

namespace facedeploy {
namespace detail {

constexpr int weight_bits = 11;
constexpr int one = 1 << weight_bits;
constexpr int largest_picture_side = 65535;

// Of one target row or column: the two source ones, and their weights.
struct Tap {
    std::size_t first;
    std::size_t second;
    int weight_first;
    int weight_second;
};

// To the nearest, of two the even one, as OpenCV, Python and NumPy round.
inline int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

// OpenCV leaves the weights of rows beyond the edge as they are, and gives columns there one whole weight.
inline std::vector<Tap> taps(int source, int target, bool whole_at_edges) {
    std::vector<Tap> all(static_cast<std::size_t>(target));
    const double factor = static_cast<double>(target) / source;
    const double scale = 1.0 / factor;
    for (int i = 0; i < target; ++i) {
        const double centre = (i + 0.5) * scale;
        const float position = static_cast<float>(centre - 0.5);
        const float floor = std::floor(position);
        const int index = static_cast<int>(floor);
        float rest = position - floor;
        if (whole_at_edges && (index < 0 || index >= source - 1)) rest = 0;
        const auto clipped = [source](int v) { return static_cast<std::size_t>(std::clamp(v, 0, source - 1)); };
        all[static_cast<std::size_t>(i)] = {clipped(index), clipped(index + 1), rounded((1.0F - rest) * one),
                                            rounded(rest * one)};
    }
    return all;
}

using Table = std::array<std::array<float, 256>, 3>;

// Of each colour in the order of the network: the value of a pixel.
inline Table values_of_pixels(const Input& input) {
    Table table{};
    for (std::size_t c = 0; c < 3; ++c) {
        for (int v = 0; v < 256; ++v) {
            const float centred = static_cast<float>(v) - input.mean[c];
            table[c][static_cast<std::size_t>(v)] = centred * input.scale[c];
        }
    }
    return table;
}

// Where the network's colours are in a pixel of the picture, and bytes of a pixel.
struct Layout {
    std::array<std::size_t, 3> offset;
    std::size_t bytes;
};

inline Layout layout(PixelFormat format, Colours colours) {
    const bool bgr = format == PixelFormat::bgr || format == PixelFormat::bgra;
    const bool alpha = format == PixelFormat::bgra || format == PixelFormat::rgba;
    const bool same = bgr == (colours == Colours::bgr);
    return {same ? std::array<std::size_t, 3>{{0, 1, 2}} : std::array<std::size_t, 3>{{2, 1, 0}}, alpha ? 4U : 3U};
}

// Two rows of the picture, resized across, that stay until another is asked for.
class Rows {
public:
    Rows(const Picture& picture, const Layout& layout, const std::vector<Tap>& columns)
        : picture_(picture), layout_(layout), columns_(columns), rows_{{Row{columns}, Row{columns}}} {}

    // The rows `first` and `second`: three numbers a column, with 11 bits after the point.
    std::pair<const int*, const int*> get(std::size_t first, std::size_t second) {
        if (rows_[0].index != first) std::swap(rows_[0], rows_[1]);
        fill(rows_[0], first);
        if (second == first) return {rows_[0].values.data(), rows_[0].values.data()};
        fill(rows_[1], second);
        return {rows_[0].values.data(), rows_[1].values.data()};
    }

private:
    struct Row {
        explicit Row(const std::vector<Tap>& columns) : values(3 * columns.size()) {}

        std::size_t index = static_cast<std::size_t>(-1);
        std::vector<int> values;
    };

    void fill(Row& row, std::size_t index) {
        if (row.index == index) return;
        row.index = index;
        const std::uint8_t* pixels = picture_.data + index * picture_.stride;
        int* out = row.values.data();
        for (const Tap& tap : columns_) {
            const std::uint8_t* a = pixels + tap.first * layout_.bytes;
            const std::uint8_t* b = pixels + tap.second * layout_.bytes;
            for (const std::size_t c : layout_.offset) *out++ = a[c] * tap.weight_first + b[c] * tap.weight_second;
        }
    }

    const Picture& picture_;
    const Layout& layout_;
    const std::vector<Tap>& columns_;
    std::array<Row, 2> rows_;
};

// Resize into the top left corner of `out`, and turn pixels into values.
inline void resize(const Picture& picture, int rows, int columns, const Layout& layout, const Table& table,
                   Image& out) {
    const std::vector<Tap> across = taps(picture.width, columns, true);
    const std::vector<Tap> down = taps(picture.height, rows, false);
    Rows source(picture, layout, across);
    for (std::size_t y = 0; y < down.size(); ++y) {
        const Tap& tap = down[y];
        const auto [first, second] = source.get(tap.first, tap.second);
        for (std::size_t c = 0; c < 3; ++c) {
            float* line = out.data + c * out.step + y * static_cast<std::size_t>(out.width);
            for (std::size_t x = 0; x < across.size(); ++x) {
                const int a = (tap.weight_first * (first[3 * x + c] >> 4)) >> 16;
                const int b = (tap.weight_second * (second[3 * x + c] >> 4)) >> 16;
                line[x] = table[c][static_cast<std::size_t>(std::clamp((a + b + 2) >> 2, 0, 255))];
            }
        }
    }
}

// Fill what the picture leaves free with the pixel that comes closest to zero.
inline void fill_rest(const Input& input, int rows, int columns, const Table& table, Image& out) {
    for (std::size_t c = 0; c < 3; ++c) {
        const int nearest = rounded(std::clamp(input.mean[c], 0.0F, 255.0F));
        const float blank = table[c][static_cast<std::size_t>(nearest)];
        for (int y = 0; y < out.height; ++y) {
            float* line = out.data + c * out.step + static_cast<std::size_t>(y) * static_cast<std::size_t>(out.width);
            std::fill(line + (y < rows ? columns : 0), line + out.width, blank);
        }
    }
}

}  // namespace detail

inline bool empty(const Picture& picture) { return picture.height == 0 || picture.width == 0; }

inline Status check(const Picture& picture) {
    if (!detail::between(picture.height, 0, detail::largest_picture_side)) return Status::bad_picture;
    if (!detail::between(picture.width, 0, detail::largest_picture_side)) return Status::bad_picture;
    if (empty(picture)) return Status::ok;
    const std::size_t bytes = detail::layout(picture.format, Colours::bgr).bytes;
    const bool rows = picture.stride >= bytes * static_cast<std::size_t>(picture.width);
    return picture.data != nullptr && rows ? Status::ok : Status::bad_picture;
}

// The network's input, kept from picture to picture. Planes begin at multiples of 16 bytes, as ncnn wants them.
class ImageBuffer {
public:
    explicit ImageBuffer(const Input& input)
        : height_(input.height), width_(input.width), step_((area() + 3) / 4 * 4), data_(3 * step_) {}

    Image view() { return {data_.data(), 3, height_, width_, step_}; }

private:
    std::size_t area() const { return static_cast<std::size_t>(height_) * static_cast<std::size_t>(width_); }

    int height_;
    int width_;
    std::size_t step_;
    std::vector<float> data_;
};

// Resize a checked picture that has pixels and write it to `out`, which has the size of the input.
inline Scale preprocess(const Picture& picture, const Input& input, Image out) {
    const detail::Layout layout = detail::layout(picture.format, input.colours);
    const detail::Table table = detail::values_of_pixels(input);
    const Scale whole{static_cast<double>(input.width) / picture.width,
                      static_cast<double>(input.height) / picture.height};
    if (input.protocol == Protocol::stretch) {
        detail::resize(picture, input.height, input.width, layout, table, out);
        return whole;
    }
    const double factor = std::min(whole.x, whole.y);
    const int rows = std::clamp(detail::rounded(picture.height * factor), 1, input.height);
    const int columns = std::clamp(detail::rounded(picture.width * factor), 1, input.width);
    detail::resize(picture, rows, columns, layout, table, out);
    detail::fill_rest(input, rows, columns, table, out);
    return {factor, factor};
}

}  // namespace facedeploy
