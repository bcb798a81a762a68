// The parts of the runner that need no ncnn, on cases from stdin: a length (uint32, little-endian) and so many bytes,
// of which the first says what they are. Answers a line for each.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "json.hpp"
#include "measure.hpp"
#include "model_file.hpp"
#include "request.hpp"

namespace {

std::string real(double value) { return runner::decimal(value, 20); }

std::string name(const char* text) { return text == nullptr ? "null" : runner::in_quotes(text); }

std::string common(const facedeploy::Input& input, const facedeploy::Selection& selection) {
    return std::to_string(input.height) + ", " + std::to_string(input.width) + ", " +
           std::to_string(static_cast<int>(input.protocol)) + ", " + std::to_string(static_cast<int>(input.colours)) +
           ", " + runner::list(input.mean, real) + ", " + runner::list(input.scale, real) + ", " +
           real(selection.score_threshold) + ", " + real(selection.nms) + ", " + std::to_string(selection.top) + ", " +
           std::to_string(selection.keep);
}

std::string numbers(const std::vector<int>& values) {
    std::string out;
    for (const int value : values) out += ", " + std::to_string(value);
    return out;
}

std::string constants(const facedeploy::MosConfig& c) {
    return common(c.input, c.selection) + numbers({c.anchors, c.channels, c.patch_channels, c.level, c.pose_batch});
}

std::string constants(const facedeploy::BoxesConfig& c) {
    return common(c.input, c.selection) +
           numbers({c.priors, c.unit, c.classes, c.face_class, c.landmarks, c.yaw, c.pitch, c.roll});
}

std::string network(const facedeploy::Network& n) {
    const facedeploy::NcnnOptions& o = n.options;
    const std::vector<bool> options{o.use_vulkan_compute,  o.use_fp16_packed,    o.use_fp16_storage,
                                    o.use_fp16_arithmetic, o.use_bf16_packed,    o.use_bf16_storage,
                                    o.use_int8_inference,  o.use_packing_layout, o.use_winograd_convolution,
                                    o.use_sgemm_convolution};
    return "[" + name(n.param) + ", " + name(n.bin) + ", " + runner::list(n.inputs, name) + ", " +
           runner::list(n.outputs, name) + ", " + runner::list(options, [](bool b) { return std::to_string(b); }) + "]";
}

std::string read_model(const std::string& text) {
    runner::Model model;
    if (const std::string problem = runner::read_model_text(text, model); !problem.empty()) return problem;
    return std::visit(
        [](const auto& m) { return "[[" + constants(m.config) + "], " + runner::list(m.networks, network) + "]"; },
        model.what);
}

std::string read_request(const std::string& text) {
    runner::Request r;
    if (const std::string problem = runner::read_request(text, r); !problem.empty()) return problem;
    const auto picture = [](const runner::RawFile& f) {
        return "[" + std::to_string(f.height) + ", " + std::to_string(f.width) + ", " + runner::in_quotes(f.path) + "]";
    };
    const runner::Rules& u = r.rules;
    return "[" + std::to_string(r.threads) + ", " + std::to_string(u.rounds) + ", " + real(u.seconds) + ", " +
           std::to_string(u.fewest) + ", " + real(u.steady) + ", " + std::to_string(u.window) + ", " + real(u.cap) +
           ", " + std::to_string(u.turn) + ", " + std::to_string(u.seed) + ", " + real(r.beat) + ", " +
           real(r.silence) + ", " + real(r.limit) + ", " +
           runner::list(r.artifacts, [](const std::string& a) { return runner::in_quotes(a); }) + ", " +
           runner::list(r.pictures, picture) + "]";
}

// Writes down when it runs.
struct Scribe {
    std::size_t who;
    std::string* log;
    runner::Phases run(std::size_t picture) {
        *log += std::to_string(who) + ":" + std::to_string(picture) + " ";
        return {1, 2, static_cast<double>(who), static_cast<double>(picture)};
    }
};

// "SUBJECTS PICTURES TURN ROUNDS SEED MOST": who ran, `|` for each time that it waited, and the last phases of each.
std::string measure(const std::string& text) {
    std::istringstream words(text);
    std::size_t subjects = 0;
    std::size_t pictures = 0;
    std::size_t most = 0;
    runner::Rules rules;
    words >> subjects >> pictures >> rules.turn >> rules.rounds >> rules.seed >> most;
    std::string log;
    std::vector<Scribe> all;
    for (std::size_t i = 0; i < subjects; ++i) all.push_back({i, &log});
    runner::Rounds rounds(all, pictures, rules, [&log] { log += "| "; });
    rounds.measure(most);
    for (const runner::Times& times : rounds.times()) {
        log += "/ ";
        for (const double value : times[3]) log += runner::decimal(value, 0) + " ";
    }
    return log;
}

// "WINDOW STEADY CAP TIME...": how many runs, and whether they became steady.
std::string warm_up(const std::string& text) {
    std::istringstream words(text);
    runner::Rules rules;
    words >> rules.window >> rules.steady >> rules.cap;
    int count = 0;
    const bool steady = runner::warm_up(
        [&] {
            double time = 0;
            if (!(words >> time)) std::exit(4);
            ++count;
            return time;
        },
        rules);
    return std::to_string(count) + (steady ? " 1" : " 0");
}

}  // namespace

int main() {
    std::uint32_t size = 0;
    while (std::fread(&size, sizeof size, 1, stdin) == 1) {
        std::string text(size, '\0');
        if (size == 0 || std::fread(text.data(), 1, size, stdin) != size) return 3;
        const char kind = text[0];
        text.erase(0, 1);
        const std::string answer = kind == 'M'   ? read_model(text)
                                   : kind == 'R' ? read_request(text)
                                   : kind == 'O' ? measure(text)
                                   : kind == 'Q' ? runner::in_quotes(text)
                                                 : warm_up(text);
        std::printf("%s\n", answer.c_str());
    }
    return 0;
}
