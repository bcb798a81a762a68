// facedeploy.h over the C++ library and the model of model.hpp. Compiles with and without exceptions.

// A fused multiply-add rounds once less, and of two equal faces another one could stay. Swift packages cannot give
// -ffp-contract=off to who depends on them.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#endif

#include "facedeploy.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include <facedeploy/ncnn.hpp>

#include "model.hpp"
#if __has_include("embedded.hpp")
#include "embedded.hpp"
#define FACEDEPLOY_EMBEDDED 1
#else
#define FACEDEPLOY_EMBEDDED 0
#endif

namespace fd = facedeploy;

struct facedeploy_detector {
    decltype(fd::with_ncnn(fd::model::config(), fd::model::networks())) model =
        fd::with_ncnn(fd::model::config(), fd::model::networks());
    std::vector<double> points;
    std::vector<facedeploy_face> faces;
};

namespace {

constexpr std::int32_t most_threads = 1024;

static_assert(static_cast<int>(fd::Status::ok) == FACEDEPLOY_OK);
static_assert(static_cast<int>(fd::Status::bad_config) == FACEDEPLOY_BAD_CONFIG);
static_assert(static_cast<int>(fd::Status::bad_picture) == FACEDEPLOY_BAD_PICTURE);
static_assert(static_cast<int>(fd::Status::wrong_size) == FACEDEPLOY_WRONG_SIZE);
static_assert(static_cast<int>(fd::Status::not_finite) == FACEDEPLOY_NOT_FINITE);
static_assert(static_cast<int>(fd::Status::network_failed) == FACEDEPLOY_NETWORK_FAILED);
static_assert(static_cast<int>(fd::PixelFormat::bgr) == FACEDEPLOY_BGR);
static_assert(static_cast<int>(fd::PixelFormat::rgb) == FACEDEPLOY_RGB);
static_assert(static_cast<int>(fd::PixelFormat::bgra) == FACEDEPLOY_BGRA);
static_assert(static_cast<int>(fd::PixelFormat::rgba) == FACEDEPLOY_RGBA);

// No exception leaves a C function.
template <class Work>
facedeploy_status guarded(const Work& work) noexcept {
#if defined(__cpp_exceptions)
    try {
        return work();
    } catch (const std::bad_alloc&) {
        return FACEDEPLOY_NO_MEMORY;
    } catch (...) {
        return FACEDEPLOY_NETWORK_FAILED;
    }
#else
    return work();
#endif
}

// load: facedeploy_status(model), after the model is prepared.
template <class Load>
facedeploy_status open(std::int32_t threads, facedeploy_detector** detector, const Load& load) noexcept {
    if (detector == nullptr) return FACEDEPLOY_BAD_CALL;
    *detector = nullptr;
    if (threads < 1 || threads > most_threads) return FACEDEPLOY_BAD_CALL;
    return guarded([&] {
        if (check(fd::model::config()) != fd::Status::ok) return FACEDEPLOY_BAD_CONFIG;
        std::unique_ptr<facedeploy_detector> made(new (std::nothrow) facedeploy_detector);
        if (made == nullptr) return FACEDEPLOY_NO_MEMORY;
        const facedeploy_status status = load(made->model);
        if (status == FACEDEPLOY_OK) *detector = made.release();
        return status;
    });
}

// Read as a file, so that ncnn finds out where bytes are missing.
struct CloseFile {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File file_of(const facedeploy_bytes& bytes) {
    if (bytes.data == nullptr || bytes.size == 0) return nullptr;
    // It is opened to be read only.
    return File(fmemopen(const_cast<void*>(bytes.data), bytes.size, "rb"));
}

float degrees(const std::optional<float>& angle) {
    return angle ? *angle : std::numeric_limits<float>::quiet_NaN();
}

void keep(const std::vector<fd::Face>& found, facedeploy_detector& detector) {
    detector.points.clear();
    detector.faces.clear();
    for (const fd::Face& face : found) {
        for (const fd::Point& point : face.landmarks) {
            detector.points.push_back(point.x);
            detector.points.push_back(point.y);
        }
    }
    std::size_t at = 0;
    for (const fd::Face& face : found) {
        facedeploy_face out{};
        out.x1 = face.box[0];
        out.y1 = face.box[1];
        out.x2 = face.box[2];
        out.y2 = face.box[3];
        out.score = face.score;
        out.yaw = degrees(face.yaw);
        out.pitch = degrees(face.pitch);
        out.roll = degrees(face.roll);
        out.landmark_count = face.landmarks.size();
        if (out.landmark_count > 0) out.landmarks = detector.points.data() + at;
        at += 2 * out.landmark_count;
        detector.faces.push_back(out);
    }
}

}  // namespace

extern "C" {

const char* facedeploy_file_name(size_t index) {
    const auto networks = fd::model::networks();
    if (index >= 2 * networks.size()) return nullptr;
    return index % 2 == 0 ? networks[index / 2].param : networks[index / 2].bin;
}

int32_t facedeploy_is_embedded(void) { return FACEDEPLOY_EMBEDDED; }

facedeploy_status facedeploy_open_folder(const char* folder, int32_t threads, facedeploy_detector** detector) {
    return open(threads, detector, [&](auto& model) {
        if (folder == nullptr) return FACEDEPLOY_BAD_CALL;
        return model.load(folder, threads) == fd::Status::ok ? FACEDEPLOY_OK : FACEDEPLOY_NOT_LOADED;
    });
}

facedeploy_status facedeploy_open_bytes(const facedeploy_bytes* files, size_t count, int32_t threads,
                                        facedeploy_detector** detector) {
    return open(threads, detector, [&](auto& model) {
        const std::size_t networks = fd::model::networks().size();
        if (files == nullptr || count != 2 * networks) return FACEDEPLOY_BAD_CALL;
        model.prepare(threads);
        for (std::size_t i = 0; i < networks; ++i) {
            const File param = file_of(files[2 * i]);
            const File bin = file_of(files[2 * i + 1]);
            if (param == nullptr || bin == nullptr) return FACEDEPLOY_NOT_LOADED;
            if (model.net(i).load_param(param.get()) != 0) return FACEDEPLOY_NOT_LOADED;
            if (model.net(i).load_model(bin.get()) != 0) return FACEDEPLOY_NOT_LOADED;
        }
        return FACEDEPLOY_OK;
    });
}

facedeploy_status facedeploy_open_embedded(int32_t threads, facedeploy_detector** detector) {
    return open(threads, detector, [&]([[maybe_unused]] auto& model) {
#if FACEDEPLOY_EMBEDDED
        model.prepare(threads);
        const auto all = fd::model::embedded();
        for (std::size_t i = 0; i < all.size(); ++i) {
            if (model.net(i).load_param_mem(all[i].param) != 0) return FACEDEPLOY_NOT_LOADED;
            // ncnn says how far it read, and reads the weights where they are.
            if (model.net(i).load_model(all[i].bin) != all[i].size) return FACEDEPLOY_NOT_LOADED;
        }
        return FACEDEPLOY_OK;
#else
        return FACEDEPLOY_NOT_EMBEDDED;
#endif
    });
}

facedeploy_status facedeploy_detect(facedeploy_detector* detector, const facedeploy_picture* picture,
                                    const facedeploy_face** faces, size_t* count) {
    if (faces == nullptr || count == nullptr) return FACEDEPLOY_BAD_CALL;
    *faces = nullptr;
    *count = 0;
    if (detector == nullptr || picture == nullptr) return FACEDEPLOY_BAD_CALL;
    if (picture->format < FACEDEPLOY_BGR || picture->format > FACEDEPLOY_RGBA) return FACEDEPLOY_BAD_CALL;
    return guarded([&] {
        const auto found = detector->model.detect({picture->data, picture->height, picture->width, picture->stride,
                                                   static_cast<fd::PixelFormat>(picture->format)});
        if (!found) return static_cast<facedeploy_status>(found.status);
        keep(found.value, *detector);
        *faces = detector->faces.data();
        *count = detector->faces.size();
        return FACEDEPLOY_OK;
    });
}

void facedeploy_close(facedeploy_detector* detector) { delete detector; }

const char* facedeploy_message(facedeploy_status status) {
    switch (status) {
        case FACEDEPLOY_BAD_CALL: return "an argument is null or out of its range";
        case FACEDEPLOY_NOT_LOADED: return "a file of the model is missing or damaged: package the artifact again";
        case FACEDEPLOY_NOT_EMBEDDED: return "the model is not compiled in: package the artifact with --embed";
        case FACEDEPLOY_NO_MEMORY: return "there is not enough memory";
        default: return fd::message(static_cast<fd::Status>(status));
    }
}
}
