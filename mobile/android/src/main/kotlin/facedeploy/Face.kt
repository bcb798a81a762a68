package facedeploy

/** In pixels of the picture. */
data class Point(val x: Float, val y: Float)

/** In pixels of the picture, from the top left corner. */
data class Box(val left: Float, val top: Float, val right: Float, val bottom: Float)

/** Angles are in degrees, and null where the model has none; landmarks are empty where it has none. */
data class Face(
    val box: Box,
    val score: Float,
    val landmarks: List<Point>,
    val yaw: Float?,
    val pitch: Float?,
    val roll: Float?
)

/** Bytes of a pixel, in their order. Alpha is not read. */
enum class PixelFormat { BGR, RGB, BGRA, RGBA }

/** What went wrong. status: a number of facedeploy.h. */
class FaceException(val status: Int, message: String) : RuntimeException(message)
