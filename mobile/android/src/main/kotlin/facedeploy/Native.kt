package facedeploy

/** The functions of libfacedeploy.so (facedeploy_jni.cpp). */
internal object Native {
    init {
        System.loadLibrary("facedeploy")
    }

    @JvmStatic
    external fun files(): Array<String>

    @JvmStatic
    external fun open(contents: Array<ByteArray>, threads: Int): LongArray

    @JvmStatic
    external fun close(handle: Long)

    @JvmStatic
    external fun message(status: Int): String

    @JvmStatic
    external fun detectBitmap(handle: Long, bitmap: Any): DoubleArray

    @JvmStatic
    external fun detectBuffer(
        handle: Long, buffer: Any, position: Int, limit: Int, width: Int, height: Int, stride: Int, format: Int
    ): DoubleArray
}
