// What this process holds, as facedeploy/benchmarks/latency/cold_start.py asks it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <optional>

namespace runner {

// Bytes in a line of /proc/self/status.
inline std::optional<std::int64_t> status_bytes(const char* name) {
    std::FILE* file = std::fopen("/proc/self/status", "r");
    if (file == nullptr) return std::nullopt;
    std::optional<std::int64_t> found;
    char line[256];
    const std::size_t size = std::strlen(name);
    while (!found && std::fgets(line, sizeof line, file) != nullptr) {
        long long kilobytes = 0;
        if (std::strncmp(line, name, size) == 0 && std::sscanf(line + size, ": %lld kB", &kilobytes) == 1) {
            found = kilobytes * 1024;
        }
    }
    std::fclose(file);
    return found;
}

// What this process holds now; its peak begins anew there. proc(5): 5 resets the peak resident set size.
inline std::optional<std::int64_t> restart_peak() {
    std::FILE* file = std::fopen("/proc/self/clear_refs", "w");
    if (file == nullptr) return status_bytes("VmHWM");
    const bool written = std::fputs("5", file) >= 0;
    return std::fclose(file) == 0 && written ? status_bytes("VmRSS") : status_bytes("VmHWM");
}

inline std::optional<std::int64_t> peak() { return status_bytes("VmHWM"); }

}  // namespace runner
