// What is above the threshold, and its suppression.
#pragma once

#include <cstddef>
#include <vector>

#include "arrays.hpp"
#include "config.hpp"
#include "nms.hpp"
#include "status.hpp"

namespace facedeploy {
namespace detail {

// The priors whose score exceeds the threshold. Score i is scores[i * stride + offset].
struct Candidates {
    std::vector<std::size_t> priors;
    std::vector<float> scores;
};

inline Status candidates(const Floats& scores, std::size_t stride, std::size_t offset, double threshold,
                         Candidates& found) {
    if (!finite(scores.data, scores.size)) return Status::not_finite;
    const float limit = static_cast<float>(threshold);
    for (std::size_t i = offset; i < scores.size; i += stride) {
        if (scores.data[i] > limit) {
            found.priors.push_back(i / stride);
            found.scores.push_back(scores.data[i]);
        }
    }
    return Status::ok;
}

inline bool finite_rows(const Floats& values, std::size_t width, const std::vector<std::size_t>& rows) {
    bool all = true;
    for (const std::size_t row : rows) all &= finite(values.data + row * width, width);
    return all;
}

}  // namespace detail
}  // namespace facedeploy
