// The files of a network and what ncnn must know of them. `facedeploy package` writes them in model.hpp.
#pragma once

#include <array>

namespace facedeploy {

// The fields of ncnn's Option that change the arithmetic. All are set, because ncnn's defaults differ.
struct NcnnOptions {
    bool use_vulkan_compute = false;
    bool use_fp16_packed = false;
    bool use_fp16_storage = false;
    bool use_fp16_arithmetic = false;
    bool use_bf16_packed = false;
    bool use_bf16_storage = false;
    bool use_int8_inference = false;
    bool use_packing_layout = true;
    bool use_winograd_convolution = true;
    bool use_sgemm_convolution = true;
};

// Names of files beside each other, and of blobs; null where the model has none.
// outputs of the family `mos`, detector: boxes, scores, landmarks, three maps; pose: angles. Of the family `boxes`:
// boxes, scores, landmarks, yaw, pitch, roll. Of a network that looks at faces: points, pose (one or three), embedding,
// classes.
struct Network {
    const char* param = nullptr;
    const char* bin = nullptr;
    std::array<const char*, 2> inputs{};
    std::array<const char*, 6> outputs{};
    NcnnOptions options;
};

}  // namespace facedeploy
