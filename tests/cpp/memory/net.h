// The stand-in for ncnn with the loading that phones need beside that of folders: from an open file, and from memory.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#define Net FolderNet
#include "../ncnn/net.h"
#undef Net

namespace ncnn {

class Net : public FolderNet {
public:
    using FolderNet::load_model;
    using FolderNet::load_param;

    int load_param(std::FILE* file) { return load_param_mem(rest(file).c_str()); }

    int load_param_mem(const char* text) {
        bytes_ = 0;
        std::istringstream lines(text);
        for (std::string line; std::getline(lines, line);) {
            std::istringstream words(line);
            std::string kind;
            std::string name;
            std::size_t size = 0;
            float add = 0;
            if (!(words >> kind >> name >> size >> add) || kind != "output") continue;
            std::size_t bytes = sizeof(float);
            for (std::size_t side = 0; words >> side;) bytes *= side;
            bytes_ += bytes;
        }
        return written(text, [this](const char* path) { return FolderNet::load_param(path); });
    }

    int load_model(std::FILE* file) {
        return written(rest(file), [this](const char* path) { return FolderNet::load_model(path); });
    }

    // How far it read, as ncnn says. Other memory than ncnn takes ends the program.
    std::size_t load_model(const unsigned char* memory) {
        if (reinterpret_cast<std::uintptr_t>(memory) % 4 != 0) std::abort();
        const std::string content(reinterpret_cast<const char*>(memory), bytes_);
        const int status = written(content, [this](const char* path) { return FolderNet::load_model(path); });
        return status == 0 ? bytes_ : 0;
    }

private:
    static std::string rest(std::FILE* file) {
        std::string all;
        for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) all += static_cast<char>(c);
        return all;
    }

    template <class Load>
    static int written(const std::string& content, const Load& load) {
        char path[] = "/tmp/stand-in-XXXXXX";
        const int number = mkstemp(path);
        if (number < 0) return -1;
        close(number);
        std::ofstream(path, std::ios::binary) << content;
        const int status = load(path);
        std::remove(path);
        return status;
    }

    std::size_t bytes_ = 0;
};

}  // namespace ncnn
