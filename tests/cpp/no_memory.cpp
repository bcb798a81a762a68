// no_memory FOLDER
// Opens the model, and finds faces, again and again, with one allocation more granted each time, until both succeed.
// Prints the statuses that there were.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <set>
#include <vector>

#include "facedeploy.h"

namespace {
long granted = -1;  // below 0: all

void* allocate(std::size_t size) {
    if (granted == 0) throw std::bad_alloc();
    if (granted > 0) --granted;
    void* memory = std::malloc(size > 0 ? size : 1);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    return granted == 0 ? nullptr : allocate(size);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept { std::free(memory); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

int main(int, char** words) {
    std::set<int> opened;
    std::set<int> detected;
    facedeploy_detector* detector = nullptr;
    for (long count = 0; detector == nullptr && count < 100000; ++count) {
        granted = count;
        const int status = facedeploy_open_folder(words[1], 1, &detector);
        granted = -1;
        opened.insert(status);
    }
    const std::vector<std::uint8_t> pixels(64 * 96 * 3);
    const facedeploy_picture picture{pixels.data(), 64, 96, 96 * 3, FACEDEPLOY_BGR};
    std::size_t found = 0;
    for (long count = 0; detector != nullptr && found == 0 && count < 100000; ++count) {
        const facedeploy_face* faces = nullptr;
        granted = count;
        const int status = facedeploy_detect(detector, &picture, &faces, &found);
        granted = -1;
        detected.insert(status);
    }
    facedeploy_close(detector);
    for (const std::set<int>* statuses : {&opened, &detected}) {
        for (const int status : *statuses) std::printf("%d ", status);
        std::printf("\n");
    }
    return found > 0 ? 0 : 1;
}
