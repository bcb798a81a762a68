// JSON, as `facedeploy detect --json` writes it. All numbers are finite: facedeploy gives no others.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include <facedeploy/arrays.hpp>

namespace runner {

inline std::string decimal(double value, int digits) {
    char text[400];  // The largest number has 309 digits before its point.
    std::snprintf(text, sizeof text, "%.*f", digits, value);
    return text;
}

// Bytes of the character of UTF-8 at the beginning; 0 where there is none. The table of well-formed sequences is 3-7 of
// the Unicode standard.
inline std::size_t character(std::string_view text) {
    const auto byte = [&text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto follows = [&byte](std::size_t i, unsigned low, unsigned high) {
        return byte(i) >= low && byte(i) <= high;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    if (first >= 0xc2 && first <= 0xdf) return follows(1, 0x80, 0xbf) ? 2 : 0;
    if (first >= 0xe0 && first <= 0xef) {
        const bool second = follows(1, first == 0xe0 ? 0xa0 : 0x80, first == 0xed ? 0x9f : 0xbf);
        return second && follows(2, 0x80, 0xbf) ? 3 : 0;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        const bool second = follows(1, first == 0xf0 ? 0x90 : 0x80, first == 0xf4 ? 0x8f : 0xbf);
        return second && follows(2, 0x80, 0xbf) && follows(3, 0x80, 0xbf) ? 4 : 0;
    }
    return 0;
}

// What is not UTF-8, as a name of a file may be, becomes U+FFFD. Not `quoted`: that would be std::quoted of libc++ too.
inline std::string in_quotes(std::string_view text) {
    std::string out = "\"";
    while (!text.empty()) {
        const std::size_t size = character(text);
        const auto c = static_cast<unsigned char>(text[0]);
        if (size == 0) {
            out += "\\ufffd";
        } else if (c == '"' || c == '\\') {
            out += '\\';
            out += text[0];
        } else if (c < 0x20 || c == 0x7f) {
            char code[8];
            std::snprintf(code, sizeof code, "\\u%04x", static_cast<unsigned>(c));
            out += code;
        } else {
            out += text.substr(0, size);
        }
        text.remove_prefix(size == 0 ? 1 : size);
    }
    return out + '"';
}

// [a, b, ...] of what `text` makes of each.
template <class Values, class Text>
std::string list(const Values& values, Text&& text) {
    std::string out = "[";
    for (const auto& value : values) {
        if (out.size() > 1) out += ", ";
        out += text(value);
    }
    return out + "]";
}

inline std::string json(const facedeploy::Face& face) {
    constexpr int digits = 4;
    const auto number = [](double value) { return decimal(value, digits); };
    std::string out = "{\"box\": " + list(face.box, number) + ", \"score\": " + decimal(face.score, digits + 2);
    if (!face.landmarks.empty()) {
        const auto point = [](const facedeploy::Point& p) {
            return "[" + decimal(p.x, digits) + ", " + decimal(p.y, digits) + "]";
        };
        out += ", \"landmarks\": " + list(face.landmarks, point);
    }
    if (face.yaw) out += ", \"yaw\": " + number(*face.yaw);
    if (face.pitch) out += ", \"pitch\": " + number(*face.pitch);
    if (face.roll) out += ", \"roll\": " + number(*face.roll);
    return out + "}";
}

inline std::string json(const std::vector<facedeploy::Face>& faces) {
    return list(faces, [](const facedeploy::Face& face) { return json(face); });
}

}  // namespace runner
