// Standard input while there is work: whoever asked is there as long as it is open and a byte comes now and then.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>

#include "lap.hpp"

namespace runner {

// At once, whatever the other threads do.
[[noreturn]] inline void give_up(const std::string& why) {
    const std::string line = "runner: " + why + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    std::_Exit(1);
}

[[noreturn]] inline void give_up_silent(double silence) {
    char text[64];
    std::snprintf(text, sizeof text, "nothing was heard for %.3g seconds", silence);
    give_up(text);
}

inline int milliseconds(double seconds) {
    return static_cast<int>(std::clamp(std::ceil(seconds * 1e3), 0.0, 1e9));
}

// The bytes up to a line that is `end`. Ends the process where they stop before it, or are more than `most`.
inline std::string read_until_end(double silence, std::size_t most) {
    constexpr std::string_view last = "\nend\n";
    std::string text;
    while (true) {
        pollfd input{STDIN_FILENO, POLLIN, 0};
        if (::poll(&input, 1, milliseconds(silence)) == 0) give_up_silent(silence);
        char block[1 << 16];
        const ssize_t size = ::read(STDIN_FILENO, block, sizeof block);
        if (size <= 0) give_up("the connection was lost");
        const std::size_t from = text.size() < last.size() ? 0 : text.size() - last.size();
        text.append(block, static_cast<std::size_t>(size));
        if (const std::size_t end = text.find(last, from); end != std::string::npos) {
            text.resize(end + last.size());  // What follows is a sign of life.
            return text;
        }
        if (text.size() > most) give_up("the request is too long");
    }
}

// Watches in a thread of its own, which sleeps but for a look at each byte; until it goes out of scope.
class Watch {
public:
    // beat: seconds between newlines on standard error. silence, limit: seconds after which it ends the process.
    Watch(double beat, double silence, double limit) : beat_(beat), silence_(silence), limit_(limit) {
        if (::pipe(done_) != 0) give_up("there is no pipe to be had");
        thread_ = std::thread([this] { watch(); });
    }
    Watch(const Watch&) = delete;
    Watch& operator=(const Watch&) = delete;
    ~Watch() {
        ::close(done_[1]);
        thread_.join();
        ::close(done_[0]);
    }

private:
    void watch() const {
        const Clock::time_point begun = Clock::now();
        Clock::time_point heard = begun;
        Clock::time_point said = begun;
        while (true) {
            const Clock::time_point now = Clock::now();
            const double unheard = seconds(now - heard);
            if (unheard >= silence_) give_up_silent(silence_);
            if (seconds(now - begun) >= limit_) give_up("the work took too long: it was told to stop");
            if (seconds(now - said) >= beat_) {
                said = now;
                [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, "\n", 1);
            }
            const double next =
                std::min({silence_ - unheard, limit_ - seconds(now - begun), beat_ - seconds(now - said)});
            pollfd both[] = {{STDIN_FILENO, POLLIN, 0}, {done_[0], POLLIN, 0}};
            if (::poll(both, 2, milliseconds(next)) <= 0) continue;
            if (both[1].revents != 0) return;
            char block[4096];
            if (::read(STDIN_FILENO, block, sizeof block) <= 0) give_up("the connection was lost");
            heard = Clock::now();
        }
    }

    double beat_;
    double silence_;
    double limit_;
    int done_[2] = {-1, -1};
    std::thread thread_;
};

}  // namespace runner
