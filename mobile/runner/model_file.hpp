// model.txt: what a folder's files are and what becomes of a picture. facedeploy/package/model_text.py writes it, and
// says what its lines are.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <facedeploy/config.hpp>
#include <facedeploy/network.hpp>

#include "files.hpp"
#include "lines.hpp"

namespace runner {

struct MosModel {
    facedeploy::MosConfig config;
    std::array<facedeploy::Network, 2> networks;
};

struct BoxesModel {
    facedeploy::BoxesConfig config;
    std::array<facedeploy::Network, 1> networks;
};

// names: what the networks point to.
struct Model {
    std::deque<std::string> names;
    std::variant<MosModel, BoxesModel> what;
};

namespace detail {

namespace fd = facedeploy;

constexpr int any = 1 << 30;                   // facedeploy::check knows what is right.
constexpr std::int64_t most_pixels = 1 << 26;  // of a network's input, which takes 12 bytes for each
constexpr double largest = 1e30;

// A word as its bytes: what is not printable ASCII, and %, is written %XX.
inline bool decode(std::string_view word, std::string& text) {
    const auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1; };
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] == ' ') return false;
        if (word[i] != '%') {
            text += word[i];
            continue;
        }
        const int high = i + 2 < word.size() ? digit(word[i + 1]) : -1;
        const int low = i + 2 < word.size() ? digit(word[i + 2]) : -1;
        if (high < 0 || low < 0 || high + low == 0) return false;
        text += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return !text.empty();
}

inline bool plain_name(const std::string& name) {
    return name != "." && name != ".." && name.find('/') == std::string::npos && name.find('\\') == std::string::npos;
}

class ModelReader {
public:
    ModelReader(std::string_view text, Model& model) : lines_(text), model_(model) {}

    // What is wrong; empty where nothing is.
    std::string read() {
        lines_.only("facedeploy-model 1");
        lines_.text("model");
        lines_.text("target");
        const std::string_view family = lines_.text("family");
        if (family == "mos") {
            read(model_.what.emplace<MosModel>());
        } else if (family == "boxes") {
            read(model_.what.emplace<BoxesModel>());
        } else {
            lines_.fail("the family is neither mos nor boxes");
        }
        lines_.only("end");
        lines_.end();
        return lines_.problem();
    }

private:
    void read(MosModel& mos) {
        fd::MosConfig& config = mos.config;
        read(config.input);
        read(config.selection);
        config.anchors = lines_.integer("anchors", 0, any);
        config.channels = lines_.integer("channels", 0, any);
        config.patch_channels = lines_.integer("patch_channels", 0, any);
        config.level = lines_.flag("level");
        config.pose_batch = lines_.integer("pose_batch", 0, any);
        check(fd::check(config));
        read(mos.networks[0], {true, false}, {true, true, true, true, true, true});
        read(mos.networks[1], {true, config.level}, {true, false, false, false, false, false});
    }

    void read(BoxesModel& boxes) {
        fd::BoxesConfig& config = boxes.config;
        read(config.input);
        read(config.selection);
        config.priors = lines_.integer("priors", 0, any);
        config.unit = lines_.flag("unit");
        config.classes = lines_.integer("classes", 0, any);
        config.face_class = lines_.integer("face_class", 0, any);
        config.landmarks = lines_.integer("landmarks", 0, any);
        config.yaw = lines_.flag("yaw");
        config.pitch = lines_.flag("pitch");
        config.roll = lines_.flag("roll");
        check(fd::check(config));
        read(boxes.networks[0], {true, false},
             {true, true, config.landmarks > 0, config.yaw, config.pitch, config.roll});
    }

    void read(fd::Input& input) {
        input.height = lines_.integer("height", 0, any);
        input.width = lines_.integer("width", 0, any);
        input.protocol = choice("protocol", "fit", "stretch") == 0 ? fd::Protocol::fit : fd::Protocol::stretch;
        input.colours = choice("colours", "bgr", "rgb") == 0 ? fd::Colours::bgr : fd::Colours::rgb;
        read("mean", input.mean);
        read("scale", input.scale);
        if (static_cast<std::int64_t>(input.height) * input.width > most_pixels) lines_.fail("the input is too large");
    }

    void read(fd::Selection& selection) {
        selection.score_threshold = lines_.real("score_threshold", 0, 1);
        selection.nms = lines_.real("nms", 0, 1);
        selection.top = lines_.integer("top", 0, any);
        selection.keep = lines_.integer("keep", 0, any);
    }

    void read(std::string_view key, std::array<float, 3>& values) {
        const std::vector<std::string_view> words = lines_.words(key, 3);
        for (std::size_t i = 0; i < 3; ++i) {
            double value = 0;
            if (!read_real(words[i], -largest, largest, value)) lines_.fail("there is no number");
            values[i] = static_cast<float>(value);
        }
    }

    // inputs, outputs: which of them there are.
    void read(fd::Network& network, std::array<bool, 2> inputs, std::array<bool, 6> outputs) {
        lines_.text("network");
        network.param = file("param");
        network.bin = file("bin");
        read("inputs", inputs, network.inputs);
        read("outputs", outputs, network.outputs);
        fd::NcnnOptions& options = network.options;
        options.use_vulkan_compute = lines_.flag("use_vulkan_compute");
        options.use_fp16_packed = lines_.flag("use_fp16_packed");
        options.use_fp16_storage = lines_.flag("use_fp16_storage");
        options.use_fp16_arithmetic = lines_.flag("use_fp16_arithmetic");
        options.use_bf16_packed = lines_.flag("use_bf16_packed");
        options.use_bf16_storage = lines_.flag("use_bf16_storage");
        options.use_int8_inference = lines_.flag("use_int8_inference");
        options.use_packing_layout = lines_.flag("use_packing_layout");
        options.use_winograd_convolution = lines_.flag("use_winograd_convolution");
        options.use_sgemm_convolution = lines_.flag("use_sgemm_convolution");
    }

    template <std::size_t Count>
    void read(std::string_view key, const std::array<bool, Count>& there, std::array<const char*, Count>& names) {
        const std::vector<std::string_view> words = lines_.words(key, Count);
        for (std::size_t i = 0; i < Count; ++i) {
            if ((words[i] != "-") != there[i]) lines_.fail(std::string(key) + " are not those of the family");
            names[i] = there[i] ? name(words[i]) : nullptr;
        }
    }

    const char* file(std::string_view key) {
        const char* found = name(lines_.text(key));
        if (!plain_name(found)) lines_.fail(std::string(key) + " is not the name of a file in this folder");
        return found;
    }

    const char* name(std::string_view word) {
        std::string text;
        if (!decode(word, text)) lines_.fail("there is no name");
        return model_.names.emplace_back(std::move(text)).c_str();
    }

    int choice(std::string_view key, std::string_view first, std::string_view second) {
        const std::string_view word = lines_.text(key);
        if (word != first && word != second) lines_.fail(std::string(key) + " is not known");
        return word == first ? 0 : 1;
    }

    void check(fd::Status status) {
        if (status != fd::Status::ok) lines_.fail("a constant of the model is out of its range");
    }

    Lines lines_;
    Model& model_;
};

}  // namespace detail

// What is wrong; empty where nothing is.
inline std::string read_model_text(std::string_view text, Model& model) {
    return detail::ModelReader(text, model).read();
}

inline std::string read_model(const std::string& folder, Model& model) {
    constexpr std::size_t most = std::size_t{1} << 20;
    const auto bytes = read_file(folder + "/model.txt", 1, most);
    if (!bytes) return folder + "/model.txt is missing, or is no such file";
    const std::string text(bytes->begin(), bytes->end());
    const std::string problem = read_model_text(text, model);
    return problem.empty() ? "" : folder + "/model.txt, " + problem + ": package the artifact again";
}

}  // namespace runner
