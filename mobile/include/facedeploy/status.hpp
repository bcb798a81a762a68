// What went wrong, instead of exceptions: everything here compiles with -fno-exceptions.
#pragma once

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "facedeploy looks for NaN and infinity: compile without -ffast-math"
#endif

namespace facedeploy {

enum class Status {
    ok,
    bad_config,      // a constant of the model is out of its range
    bad_picture,     // no pixels where there should be some, or rows shorter than the picture is wide
    wrong_size,      // the network gave an output of another size than the model has
    not_finite,      // the network gave NaN or infinity where a number counts
    network_failed,  // what runs a network said so
    bad_faces,       // faces without the five points that an aligned crop needs
};

inline const char* message(Status status) {
    switch (status) {
        case Status::ok: return "ok";
        case Status::bad_config: return "a constant of the model is out of its range: package the artifact again";
        case Status::bad_picture: return "the picture has no data, a negative size, or rows shorter than its width";
        case Status::wrong_size: return "an output of the network has another size than the model says";
        case Status::not_finite: return "the network gave NaN or infinity: check its files and its fp16 options";
        case Status::network_failed: return "the network did not run";
        case Status::bad_faces: return "an aligned crop needs the five points of a face";
    }
    return "unknown status";
}

// A value, or why there is none.
template <class T>
struct Result {
    Status status = Status::ok;
    T value{};

    explicit operator bool() const { return status == Status::ok; }
};

}  // namespace facedeploy
