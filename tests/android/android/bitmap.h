// A stand-in for the NDK's <android/bitmap.h>, for tests only: what the wrapper calls of it, with the NDK's numbers.
#pragma once

#include <cstdint>

#include <jni.h>

enum { ANDROID_BITMAP_RESULT_SUCCESS = 0, ANDROID_BITMAP_RESULT_BAD_PARAMETER = -1 };
enum AndroidBitmapFormat { ANDROID_BITMAP_FORMAT_RGBA_8888 = 1, ANDROID_BITMAP_FORMAT_RGB_565 = 4 };

struct AndroidBitmapInfo {
    std::uint32_t width;
    std::uint32_t height;
    std::uint32_t stride;
    std::int32_t format;
    std::uint32_t flags;
};

extern "C" {
int AndroidBitmap_getInfo(JNIEnv* env, jobject bitmap, AndroidBitmapInfo* info);
int AndroidBitmap_lockPixels(JNIEnv* env, jobject bitmap, void** pixels);
int AndroidBitmap_unlockPixels(JNIEnv* env, jobject bitmap);
}
