// Who runs when, how often, and what counts: the rules of facedeploy/benchmarks/latency/protocol.py, for one opening.
#pragma once

#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "lap.hpp"

namespace runner {

// rounds: so many; or, where it is negative, until `fewest` are done and `seconds` spent. turn: pictures that an
// artifact gets at a time. steady, window, cap: of the warm-up.
struct Rules {
    std::int64_t rounds = -1;
    double seconds = 0;
    std::int64_t fewest = 2;
    double steady = 0.05;
    std::size_t window = 5;
    double cap = 2;
    std::size_t turn = 8;
    std::uint64_t seed = 0;
};

// Seconds of an artifact: by phase, round after round, picture after picture.
using Times = std::array<std::vector<double>, 4>;

// CPU seconds of this process, of all its threads.
inline double processor_seconds() {
    timespec now{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// Wait until no thread of this process is busy, or patience ends: workers that spin after a call for the next one take
// the cores from whoever's turn it is then.
inline void settle() {
    constexpr double quiet = 0.3;
    constexpr double patience = 0.05;
    const Clock::time_point begun = Clock::now();
    while (seconds(Clock::now() - begun) < patience) {
        const double spent = processor_seconds();
        const Clock::time_point looked = Clock::now();
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        if (processor_seconds() - spent < quiet * seconds(Clock::now() - looked)) return;
    }
}

inline double median(std::vector<double> values) {
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2 == 1) return *middle;
    return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

// Run until steady: whether it became so. `run` gives seconds.
template <class Run>
bool warm_up(Run&& run, const Rules& rules) {
    std::vector<double> times;
    const auto window = static_cast<std::ptrdiff_t>(rules.window);
    const Clock::time_point begun = Clock::now();
    while (true) {
        times.push_back(run());
        if (times.size() < 2 * rules.window) continue;
        const double before = median({times.end() - 2 * window, times.end() - window});
        const double now = median({times.end() - window, times.end()});
        if (std::abs(now - before) <= rules.steady * before) return true;
        if (seconds(Clock::now() - begun) > rules.cap) return false;
    }
}

// An order that only the generator decides: std::shuffle differs between libraries.
inline void shuffle(std::vector<std::size_t>& order, std::mt19937_64& generator) {
    for (std::size_t left = order.size(); left > 1; --left) {
        const std::uint64_t even = std::mt19937_64::max() - std::mt19937_64::max() % left;
        std::uint64_t drawn = generator();
        while (drawn >= even) drawn = generator();
        std::swap(order[left - 1], order[static_cast<std::size_t>(drawn % left)]);
    }
}

// Subject: Phases run(std::size_t picture). Settle: void().
template <class Subject, class Settle>
class Rounds {
public:
    Rounds(std::vector<Subject>& subjects, std::size_t pictures, const Rules& rules, Settle settle)
        : subjects_(subjects), pictures_(pictures), rules_(rules), settle_(settle), generator_(rules.seed),
          times_(subjects.size()) {}

    // The first turn is run once more before all: whoever warmed up last has an advantage in it. most: numbers that
    // there may be in all.
    void measure(std::size_t most) {
        round(std::min(rules_.turn, pictures_), false);
        const Clock::time_point begun = Clock::now();
        const std::size_t size = subjects_.size() * pictures_ * 4;
        for (std::int64_t done = 0; goes_on(done, seconds(Clock::now() - begun)); ++done) {
            if (static_cast<std::size_t>(done + 1) > most / size) return;
            round(pictures_, true);
        }
    }

    const std::vector<Times>& times() const { return times_; }

private:
    bool goes_on(std::int64_t done, double spent) const {
        return rules_.rounds >= 0 ? done < rules_.rounds : done < rules_.fewest || spent < rules_.seconds;
    }

    void round(std::size_t pictures, bool counts) {
        for (std::size_t first = 0; first < pictures; first += rules_.turn) {
            std::vector<std::size_t> order(subjects_.size());
            std::iota(order.begin(), order.end(), std::size_t{0});
            shuffle(order, generator_);
            for (const std::size_t who : order) {
                settle_();
                subjects_[who].run(first);
                for (std::size_t i = first; i < std::min(first + rules_.turn, pictures); ++i) {
                    const Phases phases = subjects_[who].run(i);
                    for (std::size_t k = 0; counts && k < phases.size(); ++k) times_[who][k].push_back(phases[k]);
                }
            }
        }
    }

    std::vector<Subject>& subjects_;
    std::size_t pictures_;
    Rules rules_;
    Settle settle_;
    std::mt19937_64 generator_;
    std::vector<Times> times_;
};

}  // namespace runner
