// The family `mos`: a detector, suppression, then the pose network on the faces that are left.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "candidates.hpp"
#include "config.hpp"
#include "nms.hpp"
#include "patches.hpp"
#include "preprocess.hpp"
#include "status.hpp"

namespace facedeploy {

// What the detector gives for P priors: boxes P x 4, scores P and landmarks P x 10 in pixels of its input, and the
// feature maps, finest first. They must stay valid until `detect` returns.
struct MosOutputs {
    Floats boxes;
    Floats scores;
    Floats landmarks;
    std::array<Map, 3> features;
};

// Finds faces. Keeps its buffers, so each thread needs its own.
class Mos {
public:
    explicit Mos(const MosConfig& config)
        : config_(config), status_(check(config)), image_(status_ == Status::ok ? config.input : Input{}) {}

    // detector: Status(const Image&, MosOutputs&), which may change the image. pose: Status(const Patches&,
    // float* angles), which writes `count` times 3 x anchors numbers: yaw, pitch and roll of each anchor of the cell.
    template <class Detector, class Pose>
    Result<std::vector<Face>> detect(const Picture& picture, Detector&& detector, Pose&& pose) {
        if (status_ != Status::ok) return {status_, {}};
        if (const Status status = check(picture); status != Status::ok) return {status, {}};
        if (empty(picture)) return {};
        const Image image = image_.view();
        const Scale scale = preprocess(picture, config_.input, image);
        MosOutputs outputs;
        if (const Status status = detector(image, outputs); status != Status::ok) return {status, {}};
        Result<Kept> kept = keep(outputs, scale);
        if (!kept) return {kept.status, {}};
        if (const Status status = angles(outputs, pose, kept.value); status != Status::ok) return {status, {}};
        return {Status::ok, std::move(kept.value.faces)};
    }

private:
    struct Kept {
        std::vector<std::size_t> priors;
        std::vector<Face> faces;
    };

    bool sized(const MosOutputs& outputs) const {
        const std::size_t count = config_.priors();
        bool right = holds(outputs.scores, count) && holds(outputs.boxes, 4 * count) &&
                     holds(outputs.landmarks, 2 * MosConfig::landmarks * count);
        for (std::size_t i = 0; i < outputs.features.size(); ++i) {
            const Map& map = outputs.features[i];
            right = right && map.data != nullptr && map.channels == config_.channels &&
                    map.height == config_.rows(i) && map.width == config_.columns(i) && map.step >= config_.cells(i);
        }
        return right;
    }

    // Faces without angles.
    Result<Kept> keep(const MosOutputs& outputs, const Scale& scale) const {
        constexpr std::size_t points = MosConfig::landmarks;
        if (!sized(outputs)) return {Status::wrong_size, {}};
        const Selection& selection = config_.selection;
        detail::Candidates found;
        const Status status = detail::candidates(outputs.scores, 1, 0, selection.score_threshold, found);
        if (status != Status::ok) return {status, {}};
        if (!detail::finite_rows(outputs.boxes, 4, found.priors) ||
            !detail::finite_rows(outputs.landmarks, 2 * points, found.priors)) {
            return {Status::not_finite, {}};
        }
        std::vector<Box> boxes;
        boxes.reserve(found.priors.size());
        for (const std::size_t prior : found.priors) {
            const float* box = outputs.boxes.data + 4 * prior;
            // Overlap is measured in the picture, where a pixel counts.
            boxes.push_back({{box[0] / scale.x, box[1] / scale.y, box[2] / scale.x, box[3] / scale.y}});
        }
        Kept kept;
        for (const std::size_t i : suppress(boxes, found.scores, selection)) {
            Face face;
            face.box = boxes[i];
            face.score = found.scores[i];
            const float* landmarks = outputs.landmarks.data + 2 * points * found.priors[i];
            for (std::size_t k = 0; k < points; ++k) {
                face.landmarks.push_back({landmarks[2 * k] / scale.x, landmarks[2 * k + 1] / scale.y});
            }
            kept.priors.push_back(found.priors[i]);
            kept.faces.push_back(std::move(face));
        }
        return {Status::ok, std::move(kept)};
    }

    template <class Pose>
    Status angles(const MosOutputs& outputs, Pose& pose, Kept& kept) {
        const auto anchors = static_cast<std::size_t>(config_.anchors);
        const auto batch = static_cast<std::size_t>(config_.pose_batch);
        for (std::size_t first = 0; first < kept.faces.size(); first += batch) {
            const std::size_t count = std::min(batch, kept.faces.size() - first);
            const std::size_t* priors = kept.priors.data() + first;
            angles_.assign(count * 3 * anchors, 0.0F);
            const Patches patches = gatherer_.gather(config_, outputs.features, priors, count);
            if (const Status status = pose(patches, angles_.data()); status != Status::ok) return status;
            if (!finite(angles_.data(), angles_.size())) return Status::not_finite;
            for (std::size_t i = 0; i < count; ++i) {
                const float* mine = angles_.data() + i * 3 * anchors + priors[i] % anchors;
                Face& face = kept.faces[first + i];
                face.yaw = mine[0];
                face.pitch = mine[anchors];
                face.roll = mine[2 * anchors];
            }
        }
        return Status::ok;
    }

    MosConfig config_;
    Status status_;
    ImageBuffer image_;
    Gatherer gatherer_;
    std::vector<float> angles_;
};

}  // namespace facedeploy
