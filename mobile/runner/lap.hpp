// Where the time of a picture goes, as facedeploy/benchmarks/latency/phase_timer.py says.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <optional>

namespace runner {

using Clock = std::chrono::steady_clock;

inline double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

// Seconds: whole, preprocess (until the first network is fed), network (inside the networks), postprocess (the rest).
using Phases = std::array<double, 4>;

class Lap {
public:
    void start() {
        fed_.reset();
        network_ = {};
        begun_ = Clock::now();
    }

    // A network is about to run, and has run.
    void begin() {
        asked_ = Clock::now();
        if (!fed_) fed_ = asked_;
    }
    void end() { network_ += Clock::now() - asked_; }

    Phases stop() const {
        const Clock::duration whole = Clock::now() - begun_;
        const Clock::duration before = fed_ ? *fed_ - begun_ : whole;
        return {seconds(whole), seconds(before), seconds(network_), seconds(whole - before - network_)};
    }

private:
    Clock::time_point begun_;
    Clock::time_point asked_;
    std::optional<Clock::time_point> fed_;
    Clock::duration network_{};
};

}  // namespace runner
