// The constants of a model, as the artifact's manifest has them. `facedeploy package` writes them as model.hpp.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "status.hpp"

namespace facedeploy {

// fit: the picture as large as the network's size allows, aspect kept, in the top left corner, the rest filled with the
// mean. stretch: exactly the network's size, aspect ignored.
enum class Protocol { fit, stretch };
enum class Colours { bgr, rgb };

// value = (pixel - mean) * scale, after the resize; mean and scale are in the order of `colours`.
struct Input {
    int height = 0;
    int width = 0;
    Protocol protocol = Protocol::fit;
    Colours colours = Colours::bgr;
    std::array<float, 3> mean{{0, 0, 0}};
    std::array<float, 3> scale{{1, 1, 1}};
};

// Scores must exceed the threshold; the `top` best go into suppression, and at most `keep` come out of it. nms is the
// largest overlap of two faces. The work of suppression is at most top * keep comparisons.
struct Selection {
    double score_threshold = 0.5;
    double nms = 0.4;
    int top = 5000;
    int keep = 750;
};

// The family `mos`: mos-tiny, mos-m, mos-s.
struct MosConfig {
    static constexpr std::array<int, 3> strides{{8, 16, 32}};
    static constexpr int landmarks = 5;

    Input input;
    Selection selection;
    int anchors = 1;         // priors of a cell
    int channels = 48;       // of the feature maps
    int patch_channels = 48; // of the pose network's patches: `channels`, or one more that is 1 inside of the map
    bool level = false;      // whether the pose network also wants to know the map
    int pose_batch = 64;     // most faces of one call of the pose network

    int rows(std::size_t map) const { return (input.height + strides[map] - 1) / strides[map]; }
    int columns(std::size_t map) const { return (input.width + strides[map] - 1) / strides[map]; }
    std::size_t cells(std::size_t map) const {
        return static_cast<std::size_t>(rows(map)) * static_cast<std::size_t>(columns(map));
    }
    std::size_t priors() const { return static_cast<std::size_t>(anchors) * (cells(0) + cells(1) + cells(2)); }
};

// The family `boxes`: a network of one's own that decodes its boxes itself.
struct BoxesConfig {
    Input input;
    Selection selection;
    int priors = 0;
    bool unit = false;   // boxes and landmarks: 1 is the whole width or height of the input, instead of pixels
    int classes = 1;     // scores of a box
    int face_class = 0;  // which of them is that of a face
    int landmarks = 0;   // points of a face
    bool yaw = false;
    bool pitch = false;
    bool roll = false;
};

namespace detail {

constexpr int largest_side = 16384;  // of a network's input, as in a manifest
constexpr int largest_count = 1 << 24;

inline bool between(int value, int low, int high) { return low <= value && value <= high; }
// NaN is between nothing.
inline bool between(double value, double low, double high) { return low <= value && value <= high; }

inline bool sound(const Input& input) {
    bool good = between(input.height, 1, largest_side) && between(input.width, 1, largest_side);
    for (std::size_t i = 0; i < 3; ++i) {
        good = good && std::isfinite(input.mean[i]) && std::isfinite(input.scale[i]) && input.scale[i] > 0;
    }
    return good;
}

inline bool sound(const Selection& selection) {
    return between(selection.score_threshold, 0.0, 1.0) && between(selection.nms, 0.0, 1.0) &&
           between(selection.top, 1, largest_count) && between(selection.keep, 1, largest_count);
}

}  // namespace detail

inline Status check(const MosConfig& config) {
    const bool good = detail::sound(config.input) && detail::sound(config.selection) &&
                      detail::between(config.anchors, 1, 64) && detail::between(config.channels, 1, 4096) &&
                      detail::between(config.patch_channels, config.channels, config.channels + 1) &&
                      detail::between(config.pose_batch, 1, 4096);
    return good ? Status::ok : Status::bad_config;
}

inline Status check(const BoxesConfig& config) {
    const bool good = detail::sound(config.input) && detail::sound(config.selection) &&
                      detail::between(config.priors, 1, detail::largest_count) &&
                      detail::between(config.classes, 1, 4096) &&
                      detail::between(config.face_class, 0, config.classes - 1) &&
                      detail::between(config.landmarks, 0, 1024);
    return good ? Status::ok : Status::bad_config;
}

}  // namespace facedeploy
