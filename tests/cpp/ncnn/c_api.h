// A stand-in for ncnn, for tests only; see net.h.
#pragma once

inline const char* ncnn_version() { return "1.0.stand-in"; }
