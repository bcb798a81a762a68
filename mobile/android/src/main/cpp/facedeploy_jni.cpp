// What facedeploy.Native calls. Answers are arrays of numbers whose first one is the status, so that nothing here looks
// up a class, which an app's shrinker may have renamed.

#include <android/bitmap.h>
#include <jni.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "facedeploy.h"

namespace {

facedeploy_detector* detector_of(jlong handle) {
    return reinterpret_cast<facedeploy_detector*>(static_cast<std::intptr_t>(handle));
}

// Status, handle.
jlongArray opened(JNIEnv* env, facedeploy_status status, facedeploy_detector* detector) {
    const jlong values[] = {status, static_cast<jlong>(reinterpret_cast<std::intptr_t>(detector))};
    jlongArray answer = env->NewLongArray(2);
    if (answer == nullptr) {
        facedeploy_close(detector);
    } else {
        env->SetLongArrayRegion(answer, 0, 2, values);
    }
    return answer;
}

// Status, number of faces, number of landmarks of each; then of each face its box, score, yaw, pitch, roll, landmarks.
jdoubleArray answer(JNIEnv* env, facedeploy_status status, const facedeploy_face* faces, std::size_t count) {
    const std::size_t landmarks = count == 0 ? 0 : faces[0].landmark_count;
    std::vector<jdouble> values{static_cast<jdouble>(status), static_cast<jdouble>(count),
                                static_cast<jdouble>(landmarks)};
    values.reserve(3 + count * (8 + 2 * landmarks));
    for (std::size_t i = 0; i < count; ++i) {
        const facedeploy_face& face = faces[i];
        const jdouble numbers[] = {face.x1, face.y1, face.x2, face.y2, face.score, face.yaw, face.pitch, face.roll};
        values.insert(values.end(), numbers, numbers + 8);
        values.insert(values.end(), face.landmarks, face.landmarks + 2 * landmarks);
    }
    const auto size = static_cast<jsize>(values.size());
    jdoubleArray array = env->NewDoubleArray(size);
    if (array != nullptr) env->SetDoubleArrayRegion(array, 0, size, values.data());
    return array;
}

jdoubleArray detect(JNIEnv* env, jlong handle, const facedeploy_picture& picture) {
    const facedeploy_face* faces = nullptr;
    std::size_t count = 0;
    const facedeploy_status status = facedeploy_detect(detector_of(handle), &picture, &faces, &count);
    return answer(env, status, faces, count);
}

jdoubleArray refused(JNIEnv* env, facedeploy_status status) { return answer(env, status, nullptr, 0); }

// The bytes of some arrays, as long as this lives.
class Contents {
public:
    Contents(JNIEnv* env, jobjectArray arrays) : env_(env) {
        const jsize count = env->GetArrayLength(arrays);
        for (jsize i = 0; i < count; ++i) {
            const auto array = static_cast<jbyteArray>(env->GetObjectArrayElement(arrays, i));
            jbyte* data = array == nullptr ? nullptr : env->GetByteArrayElements(array, nullptr);
            const jsize size = data == nullptr ? 0 : env->GetArrayLength(array);
            held_.push_back({array, data});
            files.push_back({data, static_cast<std::size_t>(size)});
        }
    }
    Contents(const Contents&) = delete;
    Contents& operator=(const Contents&) = delete;
    ~Contents() {
        for (const Held& held : held_) {
            if (held.data != nullptr) env_->ReleaseByteArrayElements(held.array, held.data, JNI_ABORT);
        }
    }

    std::vector<facedeploy_bytes> files;

private:
    struct Held {
        jbyteArray array;
        jbyte* data;
    };

    JNIEnv* env_;
    std::vector<Held> held_;
};

}  // namespace

extern "C" {

// The names of the model's files; none where they are compiled in.
JNIEXPORT jobjectArray JNICALL Java_facedeploy_Native_files(JNIEnv* env, jclass) {
    jsize count = 0;
    while (facedeploy_is_embedded() == 0 && facedeploy_file_name(static_cast<std::size_t>(count)) != nullptr) ++count;
    jclass string = env->FindClass("java/lang/String");
    jobjectArray names = string == nullptr ? nullptr : env->NewObjectArray(count, string, nullptr);
    for (jsize i = 0; names != nullptr && i < count; ++i) {
        jstring name = env->NewStringUTF(facedeploy_file_name(static_cast<std::size_t>(i)));
        if (name == nullptr) return nullptr;
        env->SetObjectArrayElement(names, i, name);
    }
    return names;
}

JNIEXPORT jlongArray JNICALL Java_facedeploy_Native_open(JNIEnv* env, jclass, jobjectArray contents, jint threads) {
    facedeploy_detector* detector = nullptr;
    if (facedeploy_is_embedded() != 0) {
        const facedeploy_status status = facedeploy_open_embedded(threads, &detector);
        return opened(env, status, detector);
    }
    const Contents all(env, contents);
    const facedeploy_status status = facedeploy_open_bytes(all.files.data(), all.files.size(), threads, &detector);
    return opened(env, status, detector);
}

JNIEXPORT void JNICALL Java_facedeploy_Native_close(JNIEnv*, jclass, jlong handle) {
    facedeploy_close(detector_of(handle));
}

JNIEXPORT jstring JNICALL Java_facedeploy_Native_message(JNIEnv* env, jclass, jint status) {
    return env->NewStringUTF(facedeploy_message(static_cast<facedeploy_status>(status)));
}

JNIEXPORT jdoubleArray JNICALL Java_facedeploy_Native_detectBitmap(JNIEnv* env, jclass, jlong handle, jobject bitmap) {
    AndroidBitmapInfo info{};
    void* pixels = nullptr;
    if (AndroidBitmap_getInfo(env, bitmap, &info) != ANDROID_BITMAP_RESULT_SUCCESS ||
        info.format != ANDROID_BITMAP_FORMAT_RGBA_8888 ||
        AndroidBitmap_lockPixels(env, bitmap, &pixels) != ANDROID_BITMAP_RESULT_SUCCESS) {
        return refused(env, FACEDEPLOY_BAD_PICTURE);
    }
    jdoubleArray found = detect(env, handle, {static_cast<const std::uint8_t*>(pixels),
                                              static_cast<std::int32_t>(info.height),
                                              static_cast<std::int32_t>(info.width), info.stride, FACEDEPLOY_RGBA});
    AndroidBitmap_unlockPixels(env, bitmap);
    return found;
}

// The picture begins at byte `position` of a direct buffer and ends before byte `limit`.
JNIEXPORT jdoubleArray JNICALL Java_facedeploy_Native_detectBuffer(JNIEnv* env, jclass, jlong handle, jobject buffer,
                                                                   jint position, jint limit, jint width, jint height,
                                                                   jint stride, jint format) {
    const auto* data = static_cast<const std::uint8_t*>(env->GetDirectBufferAddress(buffer));
    if (data == nullptr || position < 0 || limit < position || limit > env->GetDirectBufferCapacity(buffer) ||
        width < 0 || height < 0 || stride < 0 || format < FACEDEPLOY_BGR || format > FACEDEPLOY_RGBA) {
        return refused(env, FACEDEPLOY_BAD_CALL);
    }
    // The last row may end where its pixels end.
    const std::int64_t row = static_cast<std::int64_t>(width) * (format < FACEDEPLOY_BGRA ? 3 : 4);
    const std::int64_t needed = height == 0 ? 0 : static_cast<std::int64_t>(stride) * (height - 1) + row;
    if (needed > limit - position) return refused(env, FACEDEPLOY_BAD_PICTURE);
    return detect(env, handle, {data + position, height, width, static_cast<std::size_t>(stride), format});
}
}
