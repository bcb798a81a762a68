// How a driver reads its cases and writes its answers; both little-endian and packed. Every array has a block of memory
// of its own, so that a sanitizer sees a read beyond its end.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include <facedeploy/facedeploy.hpp>

namespace cases {

namespace fd = facedeploy;

constexpr int truncated = 3;

inline void read_bytes(void* data, std::size_t size) {
    if (size != 0 && std::fread(data, 1, size, stdin) != size) std::exit(truncated);
}

template <class T>
T read() {
    T value;
    read_bytes(&value, sizeof value);
    return value;
}

inline int integer() { return read<std::int32_t>(); }
inline bool flag() { return integer() != 0; }

template <class T>
std::vector<T> read_array() {
    std::vector<T> values(static_cast<std::size_t>(read<std::uint32_t>()));
    read_bytes(values.data(), values.size() * sizeof(T));
    return values;
}

template <class T>
void write(T value) {
    std::fwrite(&value, sizeof value, 1, stdout);
}

template <class T>
void write_array(const T* values, std::size_t count) {
    write(static_cast<std::int32_t>(count));
    if (count != 0) std::fwrite(values, sizeof(T), count, stdout);
}

inline fd::Floats floats(const std::vector<float>& values) { return {values.data(), values.size()}; }

struct OwnedPicture {
    std::vector<std::uint8_t> bytes;
    fd::Picture picture;
};

inline OwnedPicture read_picture() {
    OwnedPicture owned;
    owned.picture.format = static_cast<fd::PixelFormat>(integer());
    owned.picture.height = integer();
    owned.picture.width = integer();
    owned.picture.stride = read<std::uint32_t>();
    owned.bytes = read_array<std::uint8_t>();
    owned.picture.data = owned.bytes.data();
    return owned;
}

inline fd::Input read_input() {
    fd::Input input;
    input.height = integer();
    input.width = integer();
    input.protocol = static_cast<fd::Protocol>(integer());
    input.colours = static_cast<fd::Colours>(integer());
    for (float& v : input.mean) v = read<float>();
    for (float& v : input.scale) v = read<float>();
    return input;
}

inline fd::Selection read_selection() {
    fd::Selection selection;
    selection.score_threshold = read<double>();
    selection.nms = read<double>();
    selection.top = integer();
    selection.keep = integer();
    return selection;
}

inline void write_faces(const fd::Result<std::vector<fd::Face>>& result) {
    constexpr float none = std::numeric_limits<float>::quiet_NaN();
    write(static_cast<std::int32_t>(result.status));
    write(static_cast<std::int32_t>(result.value.size()));
    for (const fd::Face& face : result.value) {
        for (const double v : face.box) write(v);
        write(face.score);
        for (const auto& angle : {face.yaw, face.pitch, face.roll}) write(angle.value_or(none));
        write_array(face.landmarks.data(), face.landmarks.size());
    }
}

}  // namespace cases
