// libjnigraphics.so of the stand-in: reads the fields of java/android/graphics/Bitmap.java.

#include "android/bitmap.h"

namespace {

jint field(JNIEnv* env, jobject bitmap, const char* name) {
    return env->GetIntField(bitmap, env->GetFieldID(env->GetObjectClass(bitmap), name, "I"));
}

void add(JNIEnv* env, jobject bitmap, const char* name, jint value) {
    const jfieldID id = env->GetFieldID(env->GetObjectClass(bitmap), name, "I");
    env->SetIntField(bitmap, id, env->GetIntField(bitmap, id) + value);
}

}  // namespace

extern "C" {

int AndroidBitmap_getInfo(JNIEnv* env, jobject bitmap, AndroidBitmapInfo* info) {
    if (bitmap == nullptr) return ANDROID_BITMAP_RESULT_BAD_PARAMETER;
    info->width = static_cast<std::uint32_t>(field(env, bitmap, "width"));
    info->height = static_cast<std::uint32_t>(field(env, bitmap, "height"));
    info->stride = static_cast<std::uint32_t>(field(env, bitmap, "stride"));
    info->format = field(env, bitmap, "format");
    return ANDROID_BITMAP_RESULT_SUCCESS;
}

int AndroidBitmap_lockPixels(JNIEnv* env, jobject bitmap, void** pixels) {
    const jfieldID id = env->GetFieldID(env->GetObjectClass(bitmap), "pixels", "Ljava/nio/ByteBuffer;");
    jobject buffer = env->GetObjectField(bitmap, id);
    if (buffer == nullptr) return ANDROID_BITMAP_RESULT_BAD_PARAMETER;
    *pixels = env->GetDirectBufferAddress(buffer);
    add(env, bitmap, "locks", 1);
    return ANDROID_BITMAP_RESULT_SUCCESS;
}

int AndroidBitmap_unlockPixels(JNIEnv* env, jobject bitmap) {
    add(env, bitmap, "locks", -1);
    return ANDROID_BITMAP_RESULT_SUCCESS;
}
}
