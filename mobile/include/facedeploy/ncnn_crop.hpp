// Networks that look at faces, and chains, in ncnn. Needs ncnn's headers, as ncnn.hpp.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "crop.hpp"
#include "ncnn.hpp"

namespace facedeploy {
namespace detail {

// The numbers of an output without what ncnn leaves free between channels; those are copied to `memory`.
inline Floats packed(const ncnn::Mat& mat, std::vector<float>& memory) {
    if (!plain(mat) || mat.dims < 3 || mat.c == 1) return numbers(mat);
    const auto side = [](int v) { return static_cast<std::size_t>(v); };
    const std::size_t plane = side(mat.w) * side(mat.h) * side(mat.d);
    memory.resize(plane * side(mat.c));
    for (std::size_t c = 0; c < side(mat.c); ++c) {
        std::copy_n(static_cast<const float*>(mat.data) + c * mat.cstep, plane, memory.data() + c * plane);
    }
    return {memory.data(), memory.size()};
}

template <class Config>
struct InNcnn;
template <>
struct InNcnn<MosConfig> {
    using Model = NcnnMos;
    static constexpr std::size_t networks = 2;
};
template <>
struct InNcnn<BoxesConfig> {
    using Model = NcnnBoxes;
    static constexpr std::size_t networks = 1;
};

}  // namespace detail

// A network that looks at faces, in ncnn. One object for each thread.
class NcnnCrop : public NcnnNets<1> {
public:
    NcnnCrop(const CropConfig& config, const std::array<Network, 1>& networks) : NcnnNets(networks), crop_(config) {}

    // The faces of a detector, with what the network says of them.
    Result<std::vector<Face>> locate(const Picture& picture, const std::vector<Face>& faces) {
        return crop_.locate(picture, faces, [this](const Image& image, CropOutputs& said) { return run(image, said); });
    }

    // The picture as the crop of one face.
    Result<std::vector<Face>> detect(const Picture& picture) {
        return crop_.detect(picture, [this](const Image& image, CropOutputs& said) { return run(image, said); });
    }

    // As Crop::tell.
    Status tell(const Picture& picture, const std::vector<Face>& found, std::vector<Face>& told) {
        const auto network = [this](const Image& image, CropOutputs& said) { return run(image, said); };
        return crop_.tell(picture, found, told, network);
    }

private:
    Status run(const Image& image, CropOutputs& said) {
        const Status status = run_.run(net(0), network(0), image);
        std::array<Floats, 6> of;
        for (std::size_t i = 0; i < of.size(); ++i) of[i] = detail::packed(run_.outputs[i], memory_[i]);
        said = {of[0], {{of[1], of[2], of[3]}}, of[4], of[5]};
        return status;
    }

    Crop crop_;
    detail::NcnnRun run_;
    std::array<std::vector<float>, 6> memory_;
};

// A detector, and networks that look at its faces. Each sees what the detector found, and not what another one says.
template <class Detector, std::size_t Lookers>
class NcnnChain {
    using InNcnn = detail::InNcnn<Detector>;

public:
    using Networks = std::array<Network, InNcnn::networks + Lookers>;

    NcnnChain(const ChainConfig<Detector, Lookers>& config, const Networks& networks)
        : NcnnChain(config, networks, std::make_index_sequence<InNcnn::networks>{},
                    std::make_index_sequence<Lookers>{}) {}

    // As NcnnNets, over the networks of all.
    void prepare(int threads) {
        detector_.prepare(threads);
        for (NcnnCrop& looker : lookers_) looker.prepare(threads);
    }

    Status load(const std::string& folder, int threads) {
        Status status = detector_.load(folder, threads);
        for (NcnnCrop& looker : lookers_) status = status == Status::ok ? looker.load(folder, threads) : status;
        return status;
    }

    ncnn::Net& net(std::size_t i) { return i < InNcnn::networks ? detector_.net(i) : looker(i).net(0); }
    const Network& network(std::size_t i) const {
        return i < InNcnn::networks ? detector_.network(i) : lookers_[i - InNcnn::networks].network(0);
    }

    Result<std::vector<Face>> detect(const Picture& picture) {
        const Result<std::vector<Face>> found = detector_.detect(picture);
        if (!found) return {found.status, {}};
        std::vector<Face> told = found.value;
        for (NcnnCrop& looker : lookers_) {
            const Status status = looker.tell(picture, found.value, told);
            if (status != Status::ok) return {status, {}};
        }
        return {Status::ok, std::move(told)};
    }

private:
    template <std::size_t... I, std::size_t... J>
    NcnnChain(const ChainConfig<Detector, Lookers>& config, const Networks& networks, std::index_sequence<I...>,
              std::index_sequence<J...>)
        : detector_(config.detector, {{networks[I]...}}),
          lookers_{{NcnnCrop(config.lookers[J], {{networks[InNcnn::networks + J]}})...}} {}

    NcnnCrop& looker(std::size_t i) { return lookers_[i - InNcnn::networks]; }

    typename InNcnn::Model detector_;
    std::array<NcnnCrop, Lookers> lookers_;
};

inline NcnnCrop with_ncnn(const CropConfig& config, const std::array<Network, 1>& networks) {
    return {config, networks};
}

template <class Detector, std::size_t Lookers, std::size_t Count>
NcnnChain<Detector, Lookers> with_ncnn(const ChainConfig<Detector, Lookers>& config,
                                       const std::array<Network, Count>& networks) {
    static_assert(Count == detail::InNcnn<Detector>::networks + Lookers, "a network for each part");
    return {config, networks};
}

}  // namespace facedeploy
