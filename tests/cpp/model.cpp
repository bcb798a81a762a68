// Prints what model.hpp says, as JSON.

#include <array>
#include <cstdio>
#include <string>

#include <facedeploy/facedeploy.hpp>

#include "model.hpp"

namespace {

namespace fd = facedeploy;

// Bytes as numbers, so that no name needs quoting.
std::string bytes(const char* text) {
    if (text == nullptr) return "null";
    std::string out;
    for (; *text != '\0'; ++text) {
        out += out.empty() ? "" : ", ";
        out += std::to_string(static_cast<unsigned char>(*text));
    }
    return "[" + out + "]";
}

void print(const char* name, const std::array<float, 3>& values) {
    std::printf("\"%s\": [%.17g, %.17g, %.17g], ", name, static_cast<double>(values[0]), static_cast<double>(values[1]),
                static_cast<double>(values[2]));
}

void print(const fd::Input& input, const fd::Selection& selection) {
    std::printf("{\"input\": [%d, %d, %d, %d], ", input.height, input.width, static_cast<int>(input.protocol),
                static_cast<int>(input.colours));
    print("mean", input.mean);
    print("scale", input.scale);
    std::printf("\"selection\": [%.17g, %.17g, %d, %d], ", selection.score_threshold, selection.nms, selection.top,
                selection.keep);
}

[[maybe_unused]] void print(const fd::MosConfig& c) {
    print(c.input, c.selection);
    std::printf("\"rest\": [%d, %d, %d, %d, %d]", c.anchors, c.channels, c.patch_channels, c.level, c.pose_batch);
}

[[maybe_unused]] void print(const fd::BoxesConfig& c) {
    print(c.input, c.selection);
    std::printf("\"rest\": [%d, %d, %d, %d, %d, %d, %d, %d]", c.priors, c.unit, c.classes, c.face_class, c.landmarks,
                c.yaw, c.pitch, c.roll);
}

}  // namespace

int main() {
    const auto config = fd::model::config();
    if (check(config) != fd::Status::ok) return 1;
    print(config);
    std::printf(", \"networks\": [");
    bool first = true;
    for (const fd::Network& network : fd::model::networks()) {
        std::printf("%s{\"files\": [%s, %s], \"names\": [", first ? "" : ", ", bytes(network.param).c_str(),
                    bytes(network.bin).c_str());
        first = false;
        for (const char* name : network.inputs) std::printf("%s, ", bytes(name).c_str());
        for (const char* name : network.outputs) std::printf("%s, ", bytes(name).c_str());
        const fd::NcnnOptions& o = network.options;
        std::printf("0], \"options\": [%d, %d, %d, %d, %d, %d, %d, %d, %d, %d]}", o.use_vulkan_compute,
                    o.use_fp16_packed, o.use_fp16_storage, o.use_fp16_arithmetic, o.use_bf16_packed, o.use_bf16_storage,
                    o.use_int8_inference, o.use_packing_layout, o.use_winograd_convolution, o.use_sgemm_convolution);
    }
    std::printf("], \"name\": %s, \"target\": %s}\n", bytes(fd::model::name).c_str(), bytes(fd::model::target).c_str());
    return 0;
}
