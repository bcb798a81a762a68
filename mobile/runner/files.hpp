// Files, read whole.
#pragma once

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace runner {

class Descriptor {
public:
    explicit Descriptor(int number) : number_(number) {}
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() {
        if (number_ >= 0) ::close(number_);
    }
    int get() const { return number_; }

private:
    int number_;
};

// The bytes of a plain file of `least` to `most` bytes; nothing where it is not one. Its size is looked at first, so
// that a lie about it takes no memory.
inline std::optional<std::vector<std::uint8_t>> read_file(const std::string& path, std::size_t least,
                                                          std::size_t most) {
    // A pipe of that name would wait for its other end.
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat found {};
    if (file.get() < 0 || ::fstat(file.get(), &found) != 0 || !S_ISREG(found.st_mode)) return std::nullopt;
    const auto size = static_cast<std::uint64_t>(found.st_size);
    if (size < least || size > most) return std::nullopt;
    std::vector<std::uint8_t> bytes(static_cast<std::size_t>(size));
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t more = ::read(file.get(), bytes.data() + done, bytes.size() - done);
        if (more <= 0) return std::nullopt;
        done += static_cast<std::size_t>(more);
    }
    return bytes;
}

}  // namespace runner
