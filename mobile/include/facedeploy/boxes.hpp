// The family `boxes`: a network that decodes its boxes itself. Threshold, suppression, no more.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "candidates.hpp"
#include "config.hpp"
#include "nms.hpp"
#include "preprocess.hpp"
#include "status.hpp"

namespace facedeploy {

// For P priors: boxes P x 4, scores P x classes, landmarks P x 2k, angles P. What the model has not is left empty.
// They must stay valid until `detect` returns.
struct BoxesOutputs {
    Floats boxes;
    Floats scores;
    Floats landmarks;
    Floats yaw;
    Floats pitch;
    Floats roll;
};

// Finds faces. Keeps its buffers, so each thread needs its own.
class Boxes {
public:
    explicit Boxes(const BoxesConfig& config)
        : config_(config), status_(check(config)), image_(status_ == Status::ok ? config.input : Input{}) {}

    // network: Status(const Image&, BoxesOutputs&), which may change the image.
    template <class Network>
    Result<std::vector<Face>> detect(const Picture& picture, Network&& network) {
        if (status_ != Status::ok) return {status_, {}};
        if (const Status status = check(picture); status != Status::ok) return {status, {}};
        if (empty(picture)) return {};
        const Image image = image_.view();
        const Scale scale = preprocess(picture, config_.input, image);
        BoxesOutputs outputs;
        if (const Status status = network(image, outputs); status != Status::ok) return {status, {}};
        return faces(outputs, scale);
    }

private:
    bool sized(const BoxesOutputs& outputs) const {
        const auto count = static_cast<std::size_t>(config_.priors);
        const auto angle = [count](const Floats& values, bool wanted) { return !wanted || holds(values, count); };
        return holds(outputs.boxes, 4 * count) &&
               holds(outputs.scores, static_cast<std::size_t>(config_.classes) * count) &&
               (config_.landmarks == 0 ||
                holds(outputs.landmarks, 2 * static_cast<std::size_t>(config_.landmarks) * count)) &&
               angle(outputs.yaw, config_.yaw) && angle(outputs.pitch, config_.pitch) &&
               angle(outputs.roll, config_.roll);
    }

    bool finite_all(const BoxesOutputs& outputs, const std::vector<std::size_t>& priors) const {
        const auto points = static_cast<std::size_t>(config_.landmarks);
        const auto angle = [&priors](const Floats& values, bool wanted) {
            return !wanted || detail::finite_rows(values, 1, priors);
        };
        return detail::finite_rows(outputs.boxes, 4, priors) &&
               (points == 0 || detail::finite_rows(outputs.landmarks, 2 * points, priors)) &&
               angle(outputs.yaw, config_.yaw) && angle(outputs.pitch, config_.pitch) &&
               angle(outputs.roll, config_.roll);
    }

    Result<std::vector<Face>> faces(const BoxesOutputs& outputs, const Scale& scale) const {
        if (!sized(outputs)) return {Status::wrong_size, {}};
        detail::Candidates found;
        const Status status =
            detail::candidates(outputs.scores, static_cast<std::size_t>(config_.classes),
                               static_cast<std::size_t>(config_.face_class), config_.selection.score_threshold, found);
        if (status != Status::ok) return {status, {}};
        if (!finite_all(outputs, found.priors)) return {Status::not_finite, {}};
        // From the network's numbers to pixels of the picture.
        const double across = (config_.unit ? config_.input.width : 1.0) / scale.x;
        const double down = (config_.unit ? config_.input.height : 1.0) / scale.y;
        std::vector<Box> boxes;
        boxes.reserve(found.priors.size());
        for (const std::size_t prior : found.priors) {
            const float* box = outputs.boxes.data + 4 * prior;
            boxes.push_back({{box[0] * across, box[1] * down, box[2] * across, box[3] * down}});
        }
        std::vector<Face> all;
        for (const std::size_t i : suppress(boxes, found.scores, config_.selection)) {
            const std::size_t prior = found.priors[i];
            Face face;
            face.box = boxes[i];
            face.score = found.scores[i];
            const auto points = static_cast<std::size_t>(config_.landmarks);
            for (std::size_t k = 0; k < points; ++k) {
                const float* point = outputs.landmarks.data + 2 * (prior * points + k);
                face.landmarks.push_back({point[0] * across, point[1] * down});
            }
            if (config_.yaw) face.yaw = outputs.yaw.data[prior];
            if (config_.pitch) face.pitch = outputs.pitch.data[prior];
            if (config_.roll) face.roll = outputs.roll.data[prior];
            all.push_back(std::move(face));
        }
        return {Status::ok, std::move(all)};
    }

    BoxesConfig config_;
    Status status_;
    ImageBuffer image_;
};

}  // namespace facedeploy
