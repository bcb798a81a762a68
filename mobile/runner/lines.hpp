// Text of `key value` lines in a given order, read strictly: the first thing that is wrong is remembered, and from then
// on every value is an empty one.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

namespace runner {

template <class Integer>
bool read_integer(std::string_view word, Integer low, Integer high, Integer& value) {
    Integer found{};
    const char* end = word.data() + word.size();
    const auto [stopped, error] = std::from_chars(word.data(), end, found);
    if (error != std::errc() || stopped != end || found < low || found > high) return false;
    value = found;
    return true;
}

// A finite decimal. std::from_chars of fractions is younger than the compilers of some phones' kits.
inline bool read_real(std::string_view word, double low, double high, double& value) {
    constexpr std::size_t longest = 60;
    if (word.empty() || word.size() > longest) return false;
    if (word.find_first_not_of("0123456789+-.eE") != std::string_view::npos) return false;
    const std::string copy(word);
    char* end = nullptr;
    const double found = std::strtod(copy.c_str(), &end);
    if (*end != '\0' || !(low <= found && found <= high)) return false;  // NaN is between nothing.
    value = found;
    return true;
}

// Between single spaces.
inline std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> words;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t space = std::min(text.find(' ', at), text.size());
        words.push_back(text.substr(at, space - at));
        at = space + 1;
    }
    return words;
}

class Lines {
public:
    explicit Lines(std::string_view text) : rest_(text) { advance(); }

    bool good() const { return problem_.empty(); }
    // What was wrong first, with its line; empty where nothing was.
    const std::string& problem() const { return problem_; }

    void fail(const std::string& what) {
        if (good()) problem_ = "line " + std::to_string(number_) + ": " + what;
    }

    // Whether the next line has this key.
    bool next_is(std::string_view key) const {
        return good() && line_.substr(0, key.size()) == key &&
               (line_.size() == key.size() || line_[key.size()] == ' ');
    }

    // A line that is the key alone.
    void only(std::string_view key) {
        if (line_ != key) expected(key, "and nothing else");
        advance();
    }

    // What comes after the key and a space; not empty.
    std::string_view text(std::string_view key) {
        std::string_view value;
        if (next_is(key) && line_.size() > key.size() + 1) {
            value = line_.substr(key.size() + 1);
        } else {
            expected(key, "and a value");
        }
        advance();
        return good() ? value : std::string_view();
    }

    template <class Integer>
    Integer integer(std::string_view key, Integer low, Integer high) {
        Integer value = low;
        if (const std::string_view word = text(key); good() && !read_integer(word, low, high, value)) {
            wrong(key, "a whole number from " + std::to_string(low) + " to " + std::to_string(high));
        }
        return value;
    }

    double real(std::string_view key, double low, double high) {
        double value = low;
        if (const std::string_view word = text(key); good() && !read_real(word, low, high, value)) {
            wrong(key, "a number from " + std::to_string(low) + " to " + std::to_string(high));
        }
        return value;
    }

    bool flag(std::string_view key) { return integer(key, 0, 1) == 1; }

    // So many words; empty ones where something is wrong.
    std::vector<std::string_view> words(std::string_view key, std::size_t count) {
        std::vector<std::string_view> found = split(text(key));
        if (good() && found.size() != count) wrong(key, std::to_string(count) + " words");
        found.resize(count);
        return good() ? found : std::vector<std::string_view>(count);
    }

    // After the last line.
    void end() {
        if (good() && more_) fail("there is more after the end");
    }

private:
    void expected(std::string_view key, const char* what) { fail("expected `" + std::string(key) + "` " + what); }
    // Of the line before the next one.
    void wrong(std::string_view key, const std::string& what) {
        --number_;
        fail("`" + std::string(key) + "` is not " + what);
    }

    void advance() {
        ++number_;
        const std::size_t end = rest_.find('\n');
        more_ = !rest_.empty();
        line_ = rest_.substr(0, end == std::string_view::npos ? 0 : end);
        rest_ = end == std::string_view::npos ? std::string_view() : rest_.substr(end + 1);
        for (const char c : line_) {
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) fail("there is a control character");
        }
    }

    std::string_view line_;
    std::string_view rest_;
    bool more_ = false;  // whether there is a line
    int number_ = 0;
    std::string problem_;
};

}  // namespace runner
