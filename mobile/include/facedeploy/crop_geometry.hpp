// Where the crop of a face is in a picture, and its pixels as the network takes them. The look at the picture has the
// arithmetic of OpenCV's warpAffine with INTER_LINEAR (modules/imgproc/src/warp_kernels.simd.hpp): floats, rounded to 8
// bits.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "arrays.hpp"
#include "config.hpp"
#include "crop_config.hpp"
#include "preprocess.hpp"

namespace facedeploy {
namespace detail {

// From a point of the crop, in its pixels, to one of the picture: x' = xx x + xy y + x0, and y' likewise. centred: a
// pixel (i, j) is at (i + 0.5, j + 0.5); of aligned crops it is at (i, j).
struct Affine {
    double xx = 0;
    double xy = 0;
    double x0 = 0;
    double yx = 0;
    double yy = 0;
    double y0 = 0;
    bool centred = true;

    Point at(const Point& p) const { return {xx * p.x + xy * p.y + x0, yx * p.x + yy * p.y + y0}; }
};

inline Affine upright(double left, double top, double right, double bottom, const Input& input) {
    return {(right - left) / input.width, 0, left, 0, (bottom - top) / input.height, top, true};
}

inline Affine whole(const Picture& picture, const Input& input) {
    return upright(0, 0, picture.width, picture.height, input);
}

// NaN stays NaN: std::max and std::clamp give their first argument where nothing is less.
inline Affine around(const Box& box, const Place& place, const Input& input, const Picture& picture) {
    const double width = std::max(box[2] - box[0], 1e-3);
    const double height = std::max(box[3] - box[1], 1e-3);
    const double x = (box[0] + box[2]) / 2 + width * place.shift_x;
    const double y = (box[1] + box[3]) / 2 + height * place.shift_y;
    double across = width * place.grow_x;
    double down = height * place.grow_y;
    if (place.square) {
        const double longest = std::max(input.width, input.height);
        const double wide = input.width / longest;
        const double high = input.height / longest;
        const double side = std::isnan(down) ? down : std::max(across / wide, down / high);
        across = side * wide;
        down = side * high;
    }
    double left = x - across / 2;
    double top = y - down / 2;
    double right = x + across / 2;
    double bottom = y + down / 2;
    if (place.edge == Edge::cut) {
        const double most_x = picture.width;
        const double most_y = picture.height;
        left = std::clamp(left, 0.0, most_x - 1);
        top = std::clamp(top, 0.0, most_y - 1);
        right = std::min(std::max(right, left + 1), most_x);
        bottom = std::min(std::max(bottom, top + 1), most_y);
    }
    return upright(left, top, right, bottom, input);
}

// Left eye, right eye, nose, left and right corner of the mouth in a crop of 112, from facedeploy/pipelines/align.py.
constexpr std::array<Point, 5> arcface{
    {{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {41.5493, 92.3655}, {70.7299, 92.2041}}};

// The turn, scale and shift by least squares with which five points are on the template, the other way round.
inline Affine on_template(const std::vector<Point>& five, const Input& input) {
    const double size = input.width / 112.0;
    Point from;
    Point to;
    for (std::size_t i = 0; i < 5; ++i) {
        from = {from.x + five[i].x / 5, from.y + five[i].y / 5};
        to = {to.x + arcface[i].x * size / 5, to.y + arcface[i].y * size / 5};
    }
    double spread = 0;
    double a = 0;  // [[a, -b], [b, a]] turns and scales.
    double b = 0;
    for (std::size_t i = 0; i < 5; ++i) {
        const Point p{five[i].x - from.x, five[i].y - from.y};
        const Point q{arcface[i].x * size - to.x, arcface[i].y * size - to.y};
        spread += p.x * p.x + p.y * p.y;
        a += p.x * q.x + p.y * q.y;
        b += p.x * q.y - p.y * q.x;
    }
    a /= std::max(spread, 1e-12);
    b /= std::max(spread, 1e-12);
    const double square = a * a + b * b;
    const bool flat = square < 1e-24;  // Five points in one place, but for rounding, have no inverse.
    const double c = flat ? 0.0 : a / square;
    const double d = flat ? 0.0 : b / square;
    const Point shift{to.x - (a * from.x - b * from.y), to.y - (b * from.x + a * from.y)};
    return {c, d, -(c * shift.x + d * shift.y), -d, c, d * shift.x - c * shift.y, false};
}

// The four pixels around a place in the picture, and how far it is from the first.
struct Around {
    std::array<const std::uint8_t*, 4> pixels;
    float right;
    float down;
};

// Looks at one picture, which is checked and has pixels.
class Look {
public:
    Look(const Picture& picture, const CropConfig& config, const Table& table)
        : picture_(picture), table_(table), layout_(layout(picture.format, config.input.colours)),
          inside_(config.place.edge == Edge::replicate || config.place.edge == Edge::cut) {
        if (config.place.edge != Edge::mean) return;
        for (std::size_t c = 0; c < 3; ++c) {
            const int nearest = rounded(std::clamp(config.input.mean[c], 0.0F, 255.0F));
            blank_[layout_.offset[c]] = static_cast<std::uint8_t>(nearest);
        }
    }

    void cut(const Affine& from, Image& out) const {
        const double half = from.centred ? 0.5 : 0.0;
        const auto number = [](double v) { return static_cast<float>(v); };
        const float xx = number(from.xx);
        const float xy = number(from.xy);
        const float x0 = number(from.x0 + ((from.xx + from.xy) * half - half));
        const float yx = number(from.yx);
        const float yy = number(from.yy);
        const float y0 = number(from.y0 + ((from.yx + from.yy) * half - half));
        std::size_t at = 0;
        for (int row = 0; row < out.height; ++row) {
            const float x = static_cast<float>(row) * xy + x0;
            const float y = static_cast<float>(row) * yy + y0;
            for (int column = 0; column < out.width; ++column, ++at) {
                const Around near = around(static_cast<float>(column) * xx + x, static_cast<float>(column) * yx + y);
                for (std::size_t c = 0; c < 3; ++c) {
                    out.data[c * out.step + at] = table_[c][level(near, layout_.offset[c])];
                }
            }
        }
    }

private:
    // What is no number, or too far off to be counted in whole pixels, is outside.
    Around around(float x, float y) const {
        constexpr float far = 1e9F;
        if (!(std::abs(x) < far && std::abs(y) < far)) return {{{nothing(), nothing(), nothing(), nothing()}}, 0, 0};
        const float left = std::floor(x);
        const float top = std::floor(y);
        const int column = static_cast<int>(left);
        const int row = static_cast<int>(top);
        return {{{pixel(row, column), pixel(row, column + 1), pixel(row + 1, column), pixel(row + 1, column + 1)}},
                x - left,
                y - top};
    }

    const std::uint8_t* nothing() const { return blank_.data(); }

    const std::uint8_t* pixel(int row, int column) const {
        if (inside_) {
            row = std::clamp(row, 0, picture_.height - 1);
            column = std::clamp(column, 0, picture_.width - 1);
        } else if (row < 0 || row >= picture_.height || column < 0 || column >= picture_.width) {
            return nothing();
        }
        return picture_.data + static_cast<std::size_t>(row) * picture_.stride +
               static_cast<std::size_t>(column) * layout_.bytes;
    }

    static std::size_t level(const Around& near, std::size_t offset) {
        const auto value = [&](std::size_t i) { return static_cast<float>(near.pixels[i][offset]); };
        const float above = value(0) + near.right * (value(1) - value(0));
        const float below = value(2) + near.right * (value(3) - value(2));
        // 1.5 * 2^23: its neighbours are whole numbers, so that the sum is rounded to one, of two to the even one.
        constexpr float whole = 12582912.0F;
        return static_cast<std::size_t>(above + near.down * (below - above) + whole - whole);
    }

    const Picture& picture_;
    const Table& table_;
    Layout layout_;
    bool inside_;
    std::array<std::uint8_t, 4> blank_{};
};

}  // namespace detail
}  // namespace facedeploy
