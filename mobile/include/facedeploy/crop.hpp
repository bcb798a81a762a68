// A network that looks at faces which a detector has found: points, pose, embedding, classes. It finds none itself.
#pragma once

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "arrays.hpp"
#include "crop_config.hpp"
#include "crop_decode.hpp"
#include "crop_geometry.hpp"
#include "preprocess.hpp"
#include "status.hpp"

namespace facedeploy {

// What the network gives for one face. What the model has not is left empty. They must stay valid until the next call.
struct CropOutputs {
    Floats points;
    std::array<Floats, 3> pose;
    Floats embedding;
    Floats classes;
};

// Looks at faces, one after the other. Keeps its buffers, so each thread needs its own.
class Crop {
public:
    explicit Crop(const CropConfig& config)
        : config_(config), status_(check(config)), table_(detail::values_of_pixels(config.input)),
          image_(status_ == Status::ok ? config.input : Input{}) {}

    // The faces, with what the network says of them. network: Status(const Image&, CropOutputs&), which may change the
    // image.
    template <class Network>
    Result<std::vector<Face>> locate(const Picture& picture, const std::vector<Face>& faces, Network&& network) {
        std::vector<Face> told = faces;
        if (!config_.classes.names.empty()) {
            for (Face& face : told) face.classes.clear();
        }
        const Status status = tell(picture, faces, told, network);
        if (status != Status::ok) return {status, {}};
        return {Status::ok, std::move(told)};
    }

    // The picture as the crop of one face, with a score of 1.
    template <class Network>
    Result<std::vector<Face>> detect(const Picture& picture, Network&& network) {
        if (const Status status = usable(picture); status != Status::ok) return {status, {}};
        if (empty(picture)) return {};
        std::vector<Face> told(1);
        told[0].box = {{0, 0, static_cast<double>(picture.width), static_cast<double>(picture.height)}};
        told[0].score = 1;
        const detail::Look look(picture, config_, table_);
        const Status status = say(look, detail::whole(picture, config_.input), told[0], network);
        if (status != Status::ok) return {status, {}};
        return {Status::ok, std::move(told)};
    }

    // What the network says of the faces `found` goes into those of `told`, which are as many; several networks of a
    // chain tell of the same faces, and classes are added.
    template <class Network>
    Status tell(const Picture& picture, const std::vector<Face>& found, std::vector<Face>& told, Network&& network) {
        if (const Status status = usable(picture); status != Status::ok) return status;
        if (found.empty()) return Status::ok;
        if (empty(picture)) return Status::bad_picture;
        const bool align = config_.place.align != Align::none;
        if (found.size() != told.size()) return Status::bad_faces;
        for (const Face& face : found) {
            if (align && face.landmarks.size() != 5) return Status::bad_faces;
        }
        const detail::Look look(picture, config_, table_);
        for (std::size_t i = 0; i < found.size(); ++i) {
            const detail::Affine place = align
                                             ? detail::on_template(found[i].landmarks, config_.input)
                                             : detail::around(found[i].box, config_.place, config_.input, picture);
            if (const Status status = say(look, place, told[i], network); status != Status::ok) return status;
        }
        return Status::ok;
    }

private:
    Status usable(const Picture& picture) const { return status_ == Status::ok ? check(picture) : status_; }

    template <class Network>
    Status say(const detail::Look& look, const detail::Affine& place, Face& face, Network& network) {
        Image image = image_.view();
        look.cut(place, image);
        CropOutputs outputs;
        if (const Status status = network(image, outputs); status != Status::ok) return status;
        if (const Status status = check_outputs(outputs); status != Status::ok) return status;
        if (config_.points.size > 0) {
            const auto count = static_cast<std::size_t>(config_.points.count);
            face.landmarks.resize(count);
            for (std::size_t i = 0; i < count; ++i) {
                face.landmarks[i] = place.at(detail::point(config_.points, outputs.points.data, config_.input, i));
            }
        }
        if (config_.pose.outputs > 0) {
            const detail::Vector angles = detail::pose(config_.pose, outputs.pose);
            face.yaw = static_cast<float>(angles[0]);
            face.pitch = static_cast<float>(angles[1]);
            face.roll = static_cast<float>(angles[2]);
        }
        if (config_.embedding.size > 0) detail::embedding(config_.embedding, outputs.embedding, face.embedding);
        if (!config_.classes.names.empty()) detail::classes(config_.classes, outputs.classes, face.classes);
        return Status::ok;
    }

    Status check_outputs(const CropOutputs& outputs) const {
        Status status = Status::ok;
        const auto look_at = [&status](const Floats& values, int size) {
            if (status != Status::ok || size == 0) return;
            if (!holds(values, static_cast<std::size_t>(size))) {
                status = Status::wrong_size;
            } else if (!finite(values.data, values.size)) {
                status = Status::not_finite;
            }
        };
        look_at(outputs.points, config_.points.size);
        for (int i = 0; i < config_.pose.outputs; ++i) {
            look_at(outputs.pose[static_cast<std::size_t>(i)], config_.pose.size);
        }
        look_at(outputs.embedding, config_.embedding.size);
        look_at(outputs.classes, config_.classes.names.empty() ? 0 : config_.classes.size);
        return status;
    }

    CropConfig config_;
    Status status_;
    detail::Table table_;
    ImageBuffer image_;
};

}  // namespace facedeploy
