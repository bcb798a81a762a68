// Greedy non-maximum suppression, by the rules of facedeploy/pipelines/nms.py.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <numeric>
#include <vector>

#include "arrays.hpp"
#include "config.hpp"

namespace facedeploy {
namespace detail {

constexpr double pixel = 1.0;         // corners are inclusive: a width is x2 - x1 + 1
constexpr float rank_steps = 100000;  // scores that are equal after 5 digits are equal

inline float rank(float score) { return std::nearbyint(score * rank_steps) / rank_steps; }

inline double area(const Box& box) {
    const double width = box[2] - box[0] + pixel;
    const double height = box[3] - box[1] + pixel;
    return width * height;
}

// Intersection over union; boxes of no area overlap nothing.
inline double overlap(const Box& a, double area_a, const Box& b, double area_b) {
    const double width = std::min(a[2], b[2]) - std::max(a[0], b[0]) + pixel;
    const double height = std::min(a[3], b[3]) - std::max(a[1], b[1]) + pixel;
    const double inter = std::max(width, 0.0) * std::max(height, 0.0);
    const double both = area_a + area_b;
    return inter / std::max(both - inter, std::numeric_limits<double>::min());
}

// The `top` best, in no order. Of equal scores the first ones.
inline std::vector<std::size_t> best(const std::vector<float>& scores, std::size_t top) {
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (order.size() > top) {
        const auto better = [&scores](std::size_t a, std::size_t b) {
            return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
        };
        std::nth_element(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(), better);
        order.resize(top);
    }
    return order;
}

}  // namespace detail

// Indices of the boxes that stay, best score first; of equal scores the last box comes first. All numbers are finite.
inline std::vector<std::size_t> suppress(const std::vector<Box>& boxes, const std::vector<float>& scores,
                                         const Selection& selection) {
    std::vector<std::size_t> order = detail::best(scores, static_cast<std::size_t>(selection.top));
    std::vector<float> ranks(scores.size());
    for (const std::size_t i : order) ranks[i] = detail::rank(scores[i]);
    std::sort(order.begin(), order.end(),
              [&ranks](std::size_t a, std::size_t b) { return ranks[a] != ranks[b] ? ranks[a] > ranks[b] : a > b; });

    std::vector<std::size_t> kept;
    std::vector<double> areas;
    for (const std::size_t i : order) {
        if (kept.size() == static_cast<std::size_t>(selection.keep)) break;
        const double area = detail::area(boxes[i]);
        bool alone = true;
        for (std::size_t k = 0; alone && k < kept.size(); ++k) {
            alone = !(detail::overlap(boxes[kept[k]], areas[k], boxes[i], area) > selection.nms);
        }
        if (alone) {
            kept.push_back(i);
            areas.push_back(area);
        }
    }
    return kept;
}

}  // namespace facedeploy
