// runner FOLDER THREADS FILE HEIGHT WIDTH [FILE HEIGHT WIDTH]...
// Finds faces with the model in FOLDER. A FILE holds HEIGHT x WIDTH x 3 bytes, BGR. Prints what `facedeploy detect
// --json` prints, a line for each file. Exit status 2: the call, a file or the model is wrong.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <facedeploy/ncnn.hpp>

#include "model.hpp"

namespace {

namespace fd = facedeploy;

constexpr int largest = 65535;

int fail(const std::string& what) {
    std::fprintf(stderr, "runner: %s\n", what.c_str());
    return 2;
}

// A number from 1 to `largest`; 0 where it is not one.
int number(const char* text) {
    char* end = nullptr;
    const long value = std::strtol(text, &end, 10);
    return *text != '\0' && *end == '\0' && value >= 1 && value <= largest ? static_cast<int>(value) : 0;
}

// The bytes of a file that has exactly so many; else none.
std::vector<std::uint8_t> read_exactly(const char* path, std::size_t size) {
    std::FILE* file = std::fopen(path, "rb");
    if (file == nullptr) return {};
    // First what is there, so that a lie about the size takes no memory.
    const bool sized = std::fseek(file, 0, SEEK_END) == 0 && std::ftell(file) == static_cast<long>(size);
    std::vector<std::uint8_t> bytes(sized ? size : 0);
    std::rewind(file);
    if (std::fread(bytes.data(), 1, bytes.size(), file) != bytes.size()) bytes.clear();
    std::fclose(file);
    return bytes;
}

std::string quoted(const char* text) {
    std::string out = "\"";
    for (; *text != '\0'; ++text) {
        const auto c = static_cast<unsigned char>(*text);
        char code[8];
        if (c == '"' || c == '\\') {
            out += '\\';
            out += *text;
        } else if (c < 0x20) {
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
            out += code;
        } else {
            out += *text;
        }
    }
    return out + '"';
}

void print(const fd::Face& face) {
    std::printf("{\"box\": [%.4f, %.4f, %.4f, %.4f], \"score\": %.6f", face.box[0], face.box[1], face.box[2],
                face.box[3], static_cast<double>(face.score));
    for (std::size_t i = 0; i < face.landmarks.size(); ++i) {
        const fd::Point& point = face.landmarks[i];
        std::printf("%s[%.4f, %.4f]", i == 0 ? ", \"landmarks\": [" : ", ", point.x, point.y);
    }
    if (!face.landmarks.empty()) std::printf("]");
    if (face.yaw) std::printf(", \"yaw\": %.4f", static_cast<double>(*face.yaw));
    if (face.pitch) std::printf(", \"pitch\": %.4f", static_cast<double>(*face.pitch));
    if (face.roll) std::printf(", \"roll\": %.4f", static_cast<double>(*face.roll));
    std::printf("}");
}

}  // namespace

int main(int count, char** words) {
    if (count < 6 || count % 3 != 0) return fail("usage: runner FOLDER THREADS FILE HEIGHT WIDTH...");
    const int threads = number(words[2]);
    if (threads == 0) return fail("THREADS must be 1 or more");
    auto model = fd::with_ncnn(fd::model::config(), fd::model::networks());
    if (model.load(words[1], threads) != fd::Status::ok) {
        return fail(std::string("ncnn does not load the model in ") + words[1]);
    }
    for (int i = 3; i < count; i += 3) {
        const int height = number(words[i + 1]);
        const int width = number(words[i + 2]);
        if (height == 0 || width == 0) return fail("HEIGHT and WIDTH must lie between 1 and 65535");
        const std::size_t row = static_cast<std::size_t>(width) * 3;
        const std::vector<std::uint8_t> bytes = read_exactly(words[i], row * static_cast<std::size_t>(height));
        if (bytes.empty()) return fail(std::string(words[i]) + " is missing or is not HEIGHT x WIDTH x 3 bytes");
        const auto found = model.detect({bytes.data(), height, width, row, fd::PixelFormat::bgr});
        if (!found) return fail(std::string(words[i]) + ": " + fd::message(found.status));
        std::printf("{\"image\": %s, \"width\": %d, \"height\": %d, \"faces\": [", quoted(words[i]).c_str(), width,
                    height);
        for (std::size_t k = 0; k < found.value.size(); ++k) {
            std::printf("%s", k == 0 ? "" : ", ");
            print(found.value[k]);
        }
        std::printf("]}\n");
    }
    return 0;
}
