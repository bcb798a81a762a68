// main ASSETS THREADS, and on standard input a line of words for each thing to do:
//     buffer FILE WIDTH HEIGHT STRIDE FORMAT POSITION    a direct buffer, of which the picture begins at POSITION
//     heap FILE WIDTH HEIGHT STRIDE FORMAT POSITION      a buffer that is not direct
//     bitmap FILE WIDTH HEIGHT STRIDE FORMAT             FORMAT is a number of the NDK
//     threads FILE WIDTH HEIGHT STRIDE FORMAT COUNT      so many threads at a time, which must all find the same
//     close
// Prints a line of JSON for each: the faces, or the status and the message of the exception.

import android.content.res.AssetManager
import android.graphics.Bitmap
import facedeploy.Face
import facedeploy.FaceDetector
import facedeploy.FaceException
import facedeploy.PixelFormat
import java.io.File
import java.nio.ByteBuffer
import kotlin.concurrent.thread

fun direct(bytes: ByteArray): ByteBuffer {
    val buffer = ByteBuffer.allocateDirect(bytes.size)
    buffer.put(bytes)
    buffer.rewind()
    return buffer
}

fun json(face: Face): String {
    val points = face.landmarks.joinToString { "[${it.x}, ${it.y}]" }
    val angles = listOf("yaw" to face.yaw, "pitch" to face.pitch, "roll" to face.roll).filter { it.second != null }
    val rest = angles.joinToString("") { ", \"${it.first}\": ${it.second}" }
    val box = face.box
    return "{\"box\": [${box.left}, ${box.top}, ${box.right}, ${box.bottom}], \"score\": ${face.score}, " +
        "\"landmarks\": [$points]$rest}"
}

fun attempt(work: () -> List<Face>): String =
    try {
        "{\"faces\": [${work().joinToString { json(it) }}]}"
    } catch (error: FaceException) {
        "{\"status\": ${error.status}, \"message\": \"${error.message}\"}"
    }

fun bitmap(words: List<String>): Bitmap {
    val made = Bitmap()
    made.width = words[2].toInt()
    made.height = words[3].toInt()
    made.stride = words[4].toInt()
    made.format = words[5].toInt()
    if (words[1] != "recycled") made.pixels = direct(File(words[1]).readBytes())
    return made
}

fun detect(detector: FaceDetector, words: List<String>, extra: Int): List<Face> {
    val bytes = File(words[1]).readBytes()
    val buffer = if (words[0] == "heap") ByteBuffer.wrap(bytes) else direct(bytes)
    buffer.position(extra)
    val sides = words.slice(2..4).map { it.toInt() }
    return detector.detect(buffer, sides[0], sides[1], sides[2], PixelFormat.valueOf(words[5]))
}

fun answer(detector: FaceDetector, words: List<String>): String =
    when (words[0]) {
        "close" -> attempt {
            detector.close()
            emptyList()
        }
        "bitmap" -> {
            val given = bitmap(words)
            val said = attempt { detector.detect(given) }
            if (given.locks == 0) said else "{\"locks\": ${given.locks}}"
        }
        "threads" -> {
            val said = Array(words[6].toInt()) { "" }
            said.indices.map { i -> thread { said[i] = attempt { detect(detector, words, 0) } } }.forEach { it.join() }
            if (said.distinct().size == 1) said[0] else "{\"differ\": ${said.distinct().size}}"
        }
        else -> attempt { detect(detector, words, words[6].toInt()) }
    }

fun main(args: Array<String>) {
    val assets = if (args[0] == "none") null else AssetManager(args[0])
    var detector: FaceDetector? = null
    val failed = attempt {
        detector = FaceDetector(assets, args[1].toInt())
        emptyList()
    }
    val opened = detector
    if (opened == null) {
        println(failed)
        return
    }
    generateSequence { readLine() }.forEach { println(answer(opened, it.split(" "))) }
}
