// The networks in ncnn, on the CPU. Not part of facedeploy.hpp: it needs ncnn's headers.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#if __has_include(<net.h>)
#include <net.h>
#elif __has_include(<ncnn/net.h>)
#include <ncnn/net.h>
#else
#include <ncnn/ncnn/net.h>  // in ncnn.framework
#endif

#include "facedeploy.hpp"
#include "network.hpp"

namespace facedeploy {
namespace detail {

// Releases of ncnn before this field have nothing to set.
template <class Option>
auto set_bf16_packed(Option& option, bool value, int) -> decltype(void(option.use_bf16_packed)) {
    option.use_bf16_packed = value;
}
template <class Option>
void set_bf16_packed(Option&, bool, long) {}

inline void set_options(const NcnnOptions& from, int threads, ncnn::Option& option) {
    option.num_threads = threads;
    option.use_vulkan_compute = from.use_vulkan_compute;
    option.use_fp16_packed = from.use_fp16_packed;
    option.use_fp16_storage = from.use_fp16_storage;
    option.use_fp16_arithmetic = from.use_fp16_arithmetic;
    set_bf16_packed(option, from.use_bf16_packed, 0);
    option.use_bf16_storage = from.use_bf16_storage;
    option.use_int8_inference = from.use_int8_inference;
    option.use_packing_layout = from.use_packing_layout;
    option.use_winograd_convolution = from.use_winograd_convolution;
    option.use_sgemm_convolution = from.use_sgemm_convolution;
}

inline bool plain(const ncnn::Mat& mat) { return !mat.empty() && mat.elempack == 1 && mat.elemsize == sizeof(float); }

// The numbers of an output; none where they are not next to each other.
inline Floats numbers(const ncnn::Mat& mat) {
    if (!plain(mat) || (mat.dims >= 3 && mat.c > 1)) return {};
    const auto side = [](int v) { return static_cast<std::size_t>(v); };
    return {static_cast<const float*>(mat.data), side(mat.w) * side(mat.h) * side(mat.d)};
}

inline Map map(const ncnn::Mat& mat) {
    if (!plain(mat) || mat.dims != 3) return {};
    return {static_cast<const float*>(mat.data), mat.c, mat.h, mat.w, mat.cstep};
}

// Runs a network on a picture. The outputs stay until the next run.
class NcnnRun {
public:
    Status run(const ncnn::Net& net, const Network& network, const Image& image) {
        // ncnn reads the planes where they are.
        const ncnn::Mat input(image.width, image.height, image.channels, static_cast<void*>(image.data));
        if (input.cstep != image.step) return Status::network_failed;
        ncnn::Extractor extractor = net.create_extractor();
        if (extractor.input(network.inputs[0], input) != 0) return Status::network_failed;
        for (std::size_t i = 0; i < outputs.size(); ++i) {
            if (network.outputs[i] == nullptr) continue;
            if (extractor.extract(network.outputs[i], outputs[i]) != 0) return Status::network_failed;
        }
        return Status::ok;
    }

    std::array<ncnn::Mat, 6> outputs;
};

// Runs the pose network, face by face: batches are new in ncnn, and a face is quick.
inline Status run_pose(const ncnn::Net& net, const Network& network, const MosConfig& config, const Patches& patches,
                       float* angles) {
    const auto channels = static_cast<std::size_t>(config.patch_channels);
    const auto answers = static_cast<std::size_t>(config.anchors) * 3;
    ncnn::Mat patch(3, 3, config.patch_channels);
    ncnn::Mat level(3);
    if (patch.empty() || level.empty()) return Status::network_failed;
    for (std::size_t i = 0; i < patches.count; ++i) {
        const float* from = patches.patches + i * channels * 9;
        for (std::size_t c = 0; c < channels; ++c) {
            std::copy_n(from + 9 * c, 9, static_cast<float*>(patch.data) + c * patch.cstep);
        }
        ncnn::Extractor extractor = net.create_extractor();
        if (extractor.input(network.inputs[0], patch.clone()) != 0) return Status::network_failed;
        if (patches.level != nullptr) {
            std::copy_n(patches.level + 3 * i, 3, static_cast<float*>(level.data));
            if (extractor.input(network.inputs[1], level.clone()) != 0) return Status::network_failed;
        }
        ncnn::Mat output;
        if (extractor.extract(network.outputs[0], output) != 0) return Status::network_failed;
        const Floats found = numbers(output);
        if (!holds(found, answers)) return Status::wrong_size;
        std::copy_n(found.data, answers, angles + i * answers);
    }
    return Status::ok;
}

}  // namespace detail

// What a model tells when one of its networks is about to run and when it has run. This one listens to nothing, and
// costs nothing.
struct Unwatched {
    void begin() const {}
    void end() const {}
};

// The networks of a model, each an ncnn::Net.
template <std::size_t Count>
class NcnnNets {
public:
    explicit NcnnNets(const std::array<Network, Count>& networks) : networks_(networks) {}

    // Before anything is loaded. Who loads from elsewhere than a folder calls this, and then load_param and load_model
    // of each net().
    void prepare(int threads) {
        for (std::size_t i = 0; i < Count; ++i) detail::set_options(networks_[i].options, threads, nets_[i].opt);
    }

    Status load(const std::string& folder, int threads) {
        prepare(threads);
        for (std::size_t i = 0; i < Count; ++i) {
            const std::string param = folder + "/" + networks_[i].param;
            const std::string bin = folder + "/" + networks_[i].bin;
            if (nets_[i].load_param(param.c_str()) != 0) return Status::network_failed;
            if (nets_[i].load_model(bin.c_str()) != 0) return Status::network_failed;
        }
        return Status::ok;
    }

    ncnn::Net& net(std::size_t index) { return nets_[index]; }
    const Network& network(std::size_t index) const { return networks_[index]; }

private:
    std::array<Network, Count> networks_;
    std::array<ncnn::Net, Count> nets_;
};

// A model in ncnn. One object for each thread.
template <class Watch>
class WatchedNcnnMos : public NcnnNets<2> {
public:
    WatchedNcnnMos(const MosConfig& config, const std::array<Network, 2>& networks, Watch watch = {})
        : NcnnNets(networks), config_(config), mos_(config), watch_(watch) {}

    Result<std::vector<Face>> detect(const Picture& picture) {
        const auto detector = [this](const Image& image, MosOutputs& found) {
            watch_.begin();
            const Status status = run_.run(net(0), network(0), image);
            watch_.end();
            const std::array<ncnn::Mat, 6>& mats = run_.outputs;
            found = {detail::numbers(mats[0]), detail::numbers(mats[1]), detail::numbers(mats[2]),
                     {{detail::map(mats[3]), detail::map(mats[4]), detail::map(mats[5])}}};
            return status;
        };
        const auto pose = [this](const Patches& patches, float* angles) {
            watch_.begin();
            const Status status = detail::run_pose(net(1), network(1), config_, patches, angles);
            watch_.end();
            return status;
        };
        return mos_.detect(picture, detector, pose);
    }

private:
    MosConfig config_;
    Mos mos_;
    detail::NcnnRun run_;
    Watch watch_;
};

template <class Watch>
class WatchedNcnnBoxes : public NcnnNets<1> {
public:
    WatchedNcnnBoxes(const BoxesConfig& config, const std::array<Network, 1>& networks, Watch watch = {})
        : NcnnNets(networks), boxes_(config), watch_(watch) {}

    Result<std::vector<Face>> detect(const Picture& picture) {
        return boxes_.detect(picture, [this](const Image& image, BoxesOutputs& found) {
            watch_.begin();
            const Status status = run_.run(net(0), network(0), image);
            watch_.end();
            const std::array<ncnn::Mat, 6>& mats = run_.outputs;
            found = {detail::numbers(mats[0]), detail::numbers(mats[1]), detail::numbers(mats[2]),
                     detail::numbers(mats[3]), detail::numbers(mats[4]), detail::numbers(mats[5])};
            return status;
        });
    }

private:
    Boxes boxes_;
    detail::NcnnRun run_;
    Watch watch_;
};

using NcnnMos = WatchedNcnnMos<Unwatched>;
using NcnnBoxes = WatchedNcnnBoxes<Unwatched>;

inline NcnnMos with_ncnn(const MosConfig& config, const std::array<Network, 2>& networks) { return {config, networks}; }
inline NcnnBoxes with_ncnn(const BoxesConfig& config, const std::array<Network, 1>& networks) {
    return {config, networks};
}

}  // namespace facedeploy
