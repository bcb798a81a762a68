package facedeploy

import android.content.res.AssetManager
import android.graphics.Bitmap
import java.io.FileNotFoundException
import java.nio.ByteBuffer

/**
 * Finds faces. It holds memory that is not Java's: close it.
 *
 * Calls from several threads wait for each other; threads that are to work at the same time need a detector each. A
 * call takes milliseconds, so not on the main thread.
 *
 * @param assets where the networks are, such as context.assets; not used where they are compiled in.
 * @param threads of the processor that one call may take, 1 to 1024: as many as there are big cores.
 * @throws FaceException a file of the model is missing or damaged, or `threads` is not a number of threads.
 */
class FaceDetector @JvmOverloads constructor(assets: AssetManager?, threads: Int = 4) : AutoCloseable {
    private var handle: Long

    init {
        val contents = Native.files().map { read(assets, it) }.toTypedArray()
        val (status, opened) = Native.open(contents, threads)
        check(status.toInt())
        handle = opened
    }

    /**
     * Faces in an upright picture, best first.
     *
     * @param bitmap of Bitmap.Config.ARGB_8888, which is what Android decodes to.
     * @throws FaceException another configuration, a recycled bitmap, a closed detector, or a network that fails.
     */
    @Synchronized
    fun detect(bitmap: Bitmap): List<Face> {
        if (bitmap.isRecycled) throw FaceException(BAD_PICTURE, "the bitmap is recycled")
        if (bitmap.config != Bitmap.Config.ARGB_8888) {
            throw FaceException(BAD_PICTURE, "the bitmap is not ARGB_8888: copy it with Bitmap.copy")
        }
        return faces(Native.detectBitmap(opened(), bitmap))
    }

    /**
     * Faces in an upright picture, best first.
     *
     * @param buffer a direct one, of which the picture is what lies between its position and its limit.
     * @param stride bytes from one row to the next.
     * @throws FaceException a buffer that is not direct or too short, a closed detector, or a network that fails.
     */
    @Synchronized
    fun detect(buffer: ByteBuffer, width: Int, height: Int, stride: Int, format: PixelFormat): List<Face> {
        if (!buffer.isDirect) throw FaceException(BAD_CALL, "the buffer is not direct: use ByteBuffer.allocateDirect")
        val detector = opened()
        val numbers = Native.detectBuffer(
            detector, buffer, buffer.position(), buffer.limit(), width, height, stride, format.ordinal
        )
        return faces(numbers)
    }

    /** A second time does nothing. */
    @Synchronized
    override fun close() {
        Native.close(handle)
        handle = 0
    }

    private fun opened(): Long = if (handle != 0L) handle else throw FaceException(BAD_CALL, "the detector is closed")
}

private const val FOLDER = "facedeploy/"
private const val BAD_PICTURE = 2
private const val BAD_CALL = 6
private const val NOT_LOADED = 7

// Numbers of a face before its landmarks, and before the first face.
private const val FACE = 8
private const val HEAD = 3

private fun read(assets: AssetManager?, name: String): ByteArray {
    if (assets == null) throw FaceException(NOT_LOADED, "the model is not compiled in: give the app's assets")
    try {
        return assets.open(FOLDER + name).use { it.readBytes() }
    } catch (error: FileNotFoundException) {
        throw FaceException(NOT_LOADED, "there is no asset $FOLDER$name: is it packed with the app?")
    }
}

private fun check(status: Int) {
    if (status != 0) throw FaceException(status, Native.message(status))
}

private fun faces(numbers: DoubleArray): List<Face> {
    check(numbers[0].toInt())
    val points = numbers[2].toInt()
    return List(numbers[1].toInt()) { face(numbers, HEAD + it * (FACE + 2 * points), points) }
}

private fun face(numbers: DoubleArray, at: Int, points: Int): Face {
    fun number(index: Int): Float = numbers[at + index].toFloat()
    fun angle(index: Int): Float? = number(index).takeUnless { it.isNaN() }
    return Face(
        Box(number(0), number(1), number(2), number(3)),
        number(4),
        List(points) { Point(number(FACE + 2 * it), number(FACE + 2 * it + 1)) },
        angle(5),
        angle(6),
        angle(7)
    )
}
