// A stand-in for ncnn, for tests only: what the library and the runner call of ncnn, over networks that compute
// nothing. A .param says which outputs there are, and the .bin holds their numbers, so that all else can be compiled
// and run where ncnn's headers cannot be had. Sizes, steps and answers are those of ncnn's mat.h, net.h and net.cpp.
//
// .param, a line each:
//     facedeploy-stand-in 1
//     input NAME                               once or more
//     output NAME ELEMSIZE ADD W [H [C]]       once or more; its W x H x C floats are the next ones of the .bin, and
//                                              ADD times the first number of the first input is added to each
//     wait SECONDS | fails | dies              what a run does beside that: nothing for so long; answer -1; abort
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace ncnn {

struct Option {
    int num_threads = 1;
    bool use_vulkan_compute = false;
    bool use_fp16_packed = true;
    bool use_fp16_storage = true;
    bool use_fp16_arithmetic = true;
    bool use_bf16_packed = false;
    bool use_bf16_storage = false;
    bool use_int8_inference = true;
    bool use_packing_layout = true;
    bool use_winograd_convolution = true;
    bool use_sgemm_convolution = true;
};

// As ncnn's: a channel of three dimensions begins at a multiple of 16 bytes.
class Mat {
public:
    Mat() = default;
    explicit Mat(int width) : Mat(1, width, 1, 1, 4) {}
    Mat(int width, int height, int channels) : Mat(3, width, height, channels, 4) {}
    Mat(int width, int height, int channels, void* other)
        : data(other), elemsize(4), elempack(1), dims(3), w(width), h(height), d(1), c(channels) {
        cstep = step();
    }
    // One to three dimensions, with memory of its own.
    Mat(int dimensions, int width, int height, int channels, std::size_t size)
        : elemsize(size), elempack(1), dims(dimensions), w(width), h(height), d(1), c(channels) {
        cstep = step();
        owned_ = std::shared_ptr<void>(std::malloc(std::max<std::size_t>(total() * elemsize, 1)), std::free);
        data = owned_.get();
    }

    bool empty() const { return data == nullptr || total() == 0; }
    std::size_t total() const { return cstep * static_cast<std::size_t>(c); }

    Mat clone() const {
        Mat copy(dims, w, h, c, elemsize);
        const auto* from = static_cast<const char*>(data);
        std::copy(from, from + total() * elemsize, static_cast<char*>(copy.data));
        return copy;
    }

    void* data = nullptr;
    std::size_t elemsize = 0;
    int elempack = 0;
    int dims = 0;
    int w = 0;
    int h = 0;
    int d = 0;
    int c = 0;
    std::size_t cstep = 0;

private:
    std::size_t step() const {
        const std::size_t size = static_cast<std::size_t>(w) * static_cast<std::size_t>(h);
        return dims < 3 ? size : (size * elemsize + 15) / 16 * 16 / elemsize;
    }

    std::shared_ptr<void> owned_;
};

struct StandInOutput {
    std::string name;
    std::size_t elemsize = 4;
    float add = 0;
    std::vector<int> sides;
    std::vector<float> numbers;
};

struct StandInNet {
    std::vector<std::string> inputs;
    std::vector<StandInOutput> outputs;
    double wait = 0;
    bool fails = false;
    bool dies = false;
};

class Extractor {
public:
    explicit Extractor(const StandInNet& net) : net_(net), fed_(net.inputs.size()) {}

    int input(const char* name, const Mat& mat) {
        const auto found = std::find(net_.inputs.begin(), net_.inputs.end(), name);
        if (found == net_.inputs.end()) return -1;
        fed_[static_cast<std::size_t>(found - net_.inputs.begin())] = mat;
        return 0;
    }

    int extract(const char* name, Mat& mat) {
        for (const StandInOutput& output : net_.outputs) {
            if (output.name == name) return run(output, mat);
        }
        return -1;
    }

private:
    int run(const StandInOutput& output, Mat& mat) {
        if (net_.dies) std::abort();
        const bool fed = std::none_of(fed_.begin(), fed_.end(), [](const Mat& one) { return one.dims == 0; });
        if (net_.fails || !fed) return -1;
        if (!waited_) std::this_thread::sleep_for(std::chrono::duration<double>(net_.wait));
        waited_ = true;
        const auto side = [&output](std::size_t i) { return output.sides.size() > i ? output.sides[i] : 1; };
        mat = Mat(static_cast<int>(output.sides.size()), side(0), side(1), side(2), output.elemsize);
        if (output.elemsize != sizeof(float)) {
            std::fill_n(static_cast<char*>(mat.data), mat.total() * mat.elemsize, '\0');
            return 0;
        }
        const float more = output.add * *static_cast<const float*>(fed_[0].data);
        const std::size_t plane = static_cast<std::size_t>(mat.w) * static_cast<std::size_t>(mat.h);
        for (std::size_t i = 0; i < output.numbers.size(); ++i) {
            static_cast<float*>(mat.data)[i / plane * mat.cstep + i % plane] = output.numbers[i] + more;
        }
        return 0;
    }

    const StandInNet& net_;
    std::vector<Mat> fed_;
    bool waited_ = false;
};

class Net {
public:
    Net() = default;
    Net(const Net&) = delete;
    Net& operator=(const Net&) = delete;

    Option opt;

    int load_param(const char* path) {
        std::ifstream file(path);
        std::string line;
        if (!std::getline(file, line) || line != "facedeploy-stand-in 1") return -1;
        while (std::getline(file, line)) {
            if (!read(line)) return -1;
        }
        return net_.inputs.empty() || net_.outputs.empty() ? -1 : 0;
    }

    int load_model(const char* path) {
        std::ifstream file(path, std::ios::binary);
        if (!file) return -1;
        for (StandInOutput& output : net_.outputs) {
            std::size_t count = 1;
            for (const int side : output.sides) count *= static_cast<std::size_t>(side);
            output.numbers.resize(count);
            const auto bytes = static_cast<std::streamsize>(count * sizeof(float));
            if (!file.read(reinterpret_cast<char*>(output.numbers.data()), bytes)) return -1;
        }
        return 0;
    }

    Extractor create_extractor() const { return Extractor(net_); }

private:
    bool read(const std::string& line) {
        std::istringstream words(line);
        std::string kind;
        std::string name;
        words >> kind;
        if (kind == "fails") return net_.fails = true;
        if (kind == "dies") return net_.dies = true;
        if (kind == "wait") return static_cast<bool>(words >> net_.wait);
        if (!(words >> name)) return false;
        if (kind == "input") {
            net_.inputs.push_back(name);
            return true;
        }
        StandInOutput output{name, 4, 0, {}, {}};
        if (kind != "output" || !(words >> output.elemsize >> output.add) || output.elemsize == 0) return false;
        for (int side = 0; words >> side;) {
            if (side < 1 || side > 1 << 20) return false;
            output.sides.push_back(side);
        }
        net_.outputs.push_back(std::move(output));
        return !net_.outputs.back().sides.empty() && net_.outputs.back().sides.size() <= 3;
    }

    StandInNet net_;
};

}  // namespace ncnn
