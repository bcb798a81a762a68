// runner measure: a request from standard input, its answer on standard output.
#pragma once

#if defined(__linux__)
#include <sched.h>
#endif

#if __has_include(<c_api.h>)
#include <c_api.h>
#else
#include <ncnn/c_api.h>
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "detector.hpp"
#include "json.hpp"
#include "measure.hpp"
#include "memory.hpp"
#include "pictures.hpp"
#include "request.hpp"
#include "watch.hpp"

namespace runner {

// One line, as the Python worker writes it.
inline void say(const std::string& answer) {
    std::printf("{\"facedeploy\": {%s}}\n", answer.c_str());
    std::fflush(stdout);
}

// kind: a class of facedeploy/core/errors.py.
inline void say_error(const char* kind, const std::string& sentence) {
    say("\"error\": [" + in_quotes(kind) + ", " + in_quotes(sentence) + "]");
}

// The cores that this process may use.
inline std::string usable() {
    std::vector<int> cores;
#if defined(__linux__)
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) == 0) {
        for (int i = 0; i < CPU_SETSIZE; ++i) {
            if (CPU_ISSET(static_cast<std::size_t>(i), &set)) cores.push_back(i);
        }
    }
#endif
    return list(cores, [](int core) { return std::to_string(core); });
}

// An artifact on its way through a measurement.
class Candidate {
public:
    Candidate(std::string folder, const std::vector<Pixels>& pictures)
        : folder_(std::move(folder)), pictures_(&pictures) {}

    // Open it, and run the first picture. What is wrong with its files; empty where nothing is.
    std::string open(int threads) {
        const std::optional<std::int64_t> held = restart_peak();
        const Clock::time_point begun = Clock::now();
        std::string problem = detector_.open(folder_, threads);
        load_ = seconds(Clock::now() - begun);
        if (!problem.empty()) return problem;
        find(0);
        first_ = detector_.phases()[0];
        const std::optional<std::int64_t> most = peak();
        if (held && most) memory_ = std::max<std::int64_t>(0, *most - *held);
        return {};
    }

    // Run the other pictures too.
    void look() {
        for (std::size_t i = 1; i < pictures_->size(); ++i) find(i);
    }

    void warm_up(const Rules& rules) {
        steady_ = runner::warm_up([this] { return run(0)[0]; }, rules);
    }

    Phases run(std::size_t picture) {
        const auto found = detector_.detect((*pictures_)[picture].view());
        if (!found && status_ == facedeploy::Status::ok) status_ = found.status;
        return detector_.phases();
    }

    const std::string& folder() const { return folder_; }
    // The first that went wrong.
    facedeploy::Status status() const { return status_; }

    // Without the times.
    std::string answer() const {
        return std::string("\"steady\": ") + (steady_ ? "true" : "false") + ", \"load\": " + decimal(load_ * 1e3, 6) +
               ", \"first\": " + decimal(first_ * 1e3, 6) +
               ", \"memory\": " + (memory_ ? std::to_string(*memory_) : "null") +
               ", \"faces\": " + list(faces_, [](const std::string& faces) { return faces; });
    }

private:
    void find(std::size_t picture) {
        const auto found = detector_.detect((*pictures_)[picture].view());
        if (!found && status_ == facedeploy::Status::ok) status_ = found.status;
        faces_.push_back(json(found.value));
    }

    std::string folder_;
    const std::vector<Pixels>* pictures_;
    Detector detector_;
    facedeploy::Status status_ = facedeploy::Status::ok;
    std::vector<std::string> faces_;
    bool steady_ = true;
    double load_ = 0;
    double first_ = 0;
    std::optional<std::int64_t> memory_;
};

// [phases][rounds][pictures]
inline std::string json(const Times& times, std::size_t pictures) {
    std::string out = "[";
    for (const std::vector<double>& phase : times) {
        out += out.size() > 1 ? ", [" : "[";
        for (std::size_t i = 0; i < phase.size(); ++i) {
            out += i % pictures != 0 ? ", " : i == 0 ? "[" : "], [";
            out += decimal(phase[i], 9);
        }
        out += phase.empty() ? "]" : "]]";
    }
    return out + "]";
}

class Opening {
public:
    explicit Opening(const Request& request) : request_(request) {}

    // Says its answer, or what is wrong.
    void run() {
        if (!read_pictures()) return;
        const double before = processor_seconds();
        if (!open()) return;
        for (Candidate& c : candidates_) {
            c.look();
            const Clock::time_point begun = Clock::now();
            if (request_.rules.rounds != 0 && good(c)) c.warm_up(request_.rules);
            warmed_ += seconds(Clock::now() - begun);
            if (!good(c)) return fail(c);
        }
        Rounds rounds(candidates_, pictures_.size(), request_.rules, settle);
        const Clock::time_point begun = Clock::now();
        if (request_.rules.rounds != 0) {
            say("\"step\": \"measuring\"");
            rounds.measure(most_numbers);
        }
        const double spent = request_.rules.rounds != 0 ? seconds(Clock::now() - begun) : 0;
        const double processor = processor_seconds() - before;
        for (const Candidate& c : candidates_) {
            if (!good(c)) return fail(c);
        }
        answer(rounds.times(), spent, processor);
    }

private:
    static bool good(const Candidate& c) { return c.status() == facedeploy::Status::ok; }
    static void fail(const Candidate& c) {
        say_error("FacedeployError", c.folder() + ": " + facedeploy::message(c.status()));
    }

    bool read_pictures() {
        for (const RawFile& file : request_.pictures) {
            std::string problem;
            auto picture = read_picture(file, problem);
            if (!picture) {
                say_error("InputError", problem);
                return false;
            }
            pictures_.push_back(std::move(*picture));
        }
        return true;
    }

    bool open() {
        for (const std::string& folder : request_.artifacts) candidates_.emplace_back(folder, pictures_);
        for (Candidate& c : candidates_) {
            const std::string problem = c.open(request_.threads);
            if (!problem.empty()) say_error("InputError", problem);
            if (problem.empty() && !good(c)) fail(c);
            if (!problem.empty() || !good(c)) return false;
        }
        return true;
    }

    void answer(const std::vector<Times>& times, double spent, double processor) const {
        std::printf("{\"facedeploy\": {\"opening\": {\"ncnn\": %s, \"usable\": %s, \"seconds\": %s, \"warmed\": %s, "
                    "\"processor\": %s, \"artifacts\": [",
                    in_quotes(ncnn_version()).c_str(), usable().c_str(), decimal(spent, 9).c_str(),
                    decimal(warmed_, 9).c_str(), decimal(processor, 9).c_str());
        for (std::size_t i = 0; i < candidates_.size(); ++i) {
            std::printf("%s{%s, \"times\": %s}", i == 0 ? "" : ", ", candidates_[i].answer().c_str(),
                        json(times[i], pictures_.size()).c_str());
        }
        std::printf("]}}}\n");
        std::fflush(stdout);
    }

    const Request& request_;
    std::vector<Pixels> pictures_;
    std::vector<Candidate> candidates_;
    double warmed_ = 0;
};

// The exit status: 0 also where the answer is an error, as it is with the Python worker.
inline int measure() {
    constexpr double patience = 60;
    constexpr std::size_t most = std::size_t{8} << 20;
    const std::string text = read_until_end(patience, most);
    std::printf("\n");  // Whatever a login script printed ends here.
    Request request;
    if (const std::string problem = read_request(text, request); !problem.empty()) {
        say_error("InputError", "the request to the runner is wrong, " + problem);
        return 0;
    }
    const Watch watch(request.beat, request.silence, request.limit);
    Opening(request).run();
    return 0;
}

}  // namespace runner
