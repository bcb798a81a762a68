// Runs the library on cases from stdin, and writes the answers to stdout, as cases.hpp says. A case begins with a
// letter.

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include <facedeploy/facedeploy.hpp>

#include "cases.hpp"

namespace {

using namespace cases;

void picture_case() {
    const OwnedPicture owned = read_picture();
    const fd::Input input = read_input();
    fd::ImageBuffer buffer(input);
    const fd::Image image = buffer.view();
    const fd::Scale scale = fd::preprocess(owned.picture, input, image);
    write(scale.x);
    write(scale.y);
    const auto size = static_cast<std::size_t>(image.height) * static_cast<std::size_t>(image.width);
    for (std::size_t c = 0; c < 3; ++c) write_array(image.data + c * image.step, size);
}

void suppression_case() {
    const fd::Selection selection = read_selection();
    const std::vector<float> scores = read_array<float>();
    const std::vector<double> corners = read_array<double>();
    std::vector<fd::Box> boxes(scores.size());
    for (std::size_t i = 0; i < boxes.size(); ++i) std::memcpy(boxes[i].data(), &corners[4 * i], sizeof(fd::Box));
    std::vector<std::int32_t> kept;
    for (const std::size_t i : fd::suppress(boxes, scores, selection)) kept.push_back(static_cast<std::int32_t>(i));
    write_array(kept.data(), kept.size());
}

// A pose network that any wrong number of its input changes: sums of the patch with weights that do not repeat.
void weigh(const fd::MosConfig& config, const fd::Patches& patches, float* angles) {
    const auto size = static_cast<std::size_t>(config.patch_channels) * 9;
    const auto outputs = static_cast<std::size_t>(config.anchors) * 3;
    for (std::size_t i = 0; i < patches.count; ++i) {
        for (std::size_t k = 0; k < outputs; ++k) {
            double sum = 0;
            for (std::size_t j = 0; j < size; ++j) {
                sum += patches.patches[i * size + j] * (static_cast<double>((j * (31 + k)) % 97) - 48) / 48;
            }
            for (std::size_t j = 0; patches.level != nullptr && j < 3; ++j) {
                sum += patches.level[3 * i + j] * static_cast<double>(10 * (j + 1));
            }
            angles[i * outputs + k] = static_cast<float>(sum);
        }
    }
}

void mos_case() {
    fd::MosConfig config;
    config.input = read_input();
    config.selection = read_selection();
    config.anchors = integer();
    config.channels = integer();
    config.patch_channels = integer();
    config.level = flag();
    config.pose_batch = integer();
    const OwnedPicture owned = read_picture();
    const std::vector<float> boxes = read_array<float>();
    const std::vector<float> scores = read_array<float>();
    const std::vector<float> landmarks = read_array<float>();
    std::array<std::vector<float>, 3> memory;
    std::array<fd::Map, 3> maps;
    for (std::size_t i = 0; i < 3; ++i) {
        maps[i].channels = integer();
        maps[i].height = integer();
        maps[i].width = integer();
        maps[i].step = read<std::uint32_t>();
        memory[i] = read_array<float>();
        maps[i].data = memory[i].data();
    }
    const bool detector_fails = flag();
    const bool pose_fails = flag();
    const std::vector<float> recorded = read_array<float>();  // angles; where there are none, `weigh` makes them
    std::size_t used = 0;

    fd::Mos mos(config);
    const auto detector = [&](const fd::Image&, fd::MosOutputs& outputs) {
        outputs = {floats(boxes), floats(scores), floats(landmarks), maps};
        return detector_fails ? fd::Status::network_failed : fd::Status::ok;
    };
    const auto pose = [&](const fd::Patches& patches, float* angles) {
        const std::size_t count = patches.count * 3 * static_cast<std::size_t>(config.anchors);
        if (recorded.empty()) {
            weigh(config, patches, angles);
        } else if (used + count <= recorded.size()) {
            std::memcpy(angles, recorded.data() + used, count * sizeof(float));
            used += count;
        } else {
            return fd::Status::network_failed;
        }
        return pose_fails ? fd::Status::network_failed : fd::Status::ok;
    };
    write_faces(mos.detect(owned.picture, detector, pose));
}

void boxes_case() {
    fd::BoxesConfig config;
    config.input = read_input();
    config.selection = read_selection();
    config.priors = integer();
    config.unit = flag();
    config.classes = integer();
    config.face_class = integer();
    config.landmarks = integer();
    config.yaw = flag();
    config.pitch = flag();
    config.roll = flag();
    const OwnedPicture owned = read_picture();
    std::array<std::vector<float>, 6> arrays;
    for (auto& array : arrays) array = read_array<float>();

    fd::Boxes model(config);
    write_faces(model.detect(owned.picture, [&](const fd::Image&, fd::BoxesOutputs& outputs) {
        outputs = {floats(arrays[0]), floats(arrays[1]), floats(arrays[2]),
                   floats(arrays[3]), floats(arrays[4]), floats(arrays[5])};
        return fd::Status::ok;
    }));
}

}  // namespace

int main() {
    for (int kind = std::getchar(); kind != EOF; kind = std::getchar()) {
        switch (kind) {
            case 'P': picture_case(); break;
            case 'N': suppression_case(); break;
            case 'M': mos_case(); break;
            case 'B': boxes_case(); break;
            default: return truncated;
        }
    }
    return 0;
}
