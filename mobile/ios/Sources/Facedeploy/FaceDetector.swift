import CFacedeploy
import Foundation

#if canImport(CoreVideo)
import CoreVideo
#endif

/// Finds faces.
///
/// Calls from several threads wait for each other; threads that are to work at the same time need a detector each. A
/// call takes milliseconds, so not on the main thread.
public final class FaceDetector: @unchecked Sendable {
    private let handle: OpaquePointer
    private let lock = NSLock()

    /// Loads the model.
    ///
    /// - Parameter threads: of the processor that one call may take, 1 to 1024: as many as there are fast cores.
    /// - Throws: `FaceError`: a file of the model is missing or damaged, or `threads` is not a number of threads.
    public init(threads: Int = 2) throws {
        var opened: OpaquePointer?
        let number = Int32(clamping: threads)
        #if FACEDEPLOY_EMBEDDED
        let status = facedeploy_open_embedded(number, &opened)
        #else
        let folder = Bundle.module.path(forResource: "Model", ofType: nil) ?? ""
        let status = facedeploy_open_folder(folder, number, &opened)
        #endif
        guard status == FACEDEPLOY_OK, let detector = opened else { throw FaceDetector.error(status) }
        handle = detector
    }

    deinit {
        facedeploy_close(handle)
    }

    /// Faces in an upright picture, best first.
    ///
    /// - Parameter bytesPerRow: from one row to the next.
    /// - Throws: `FaceError`: too few bytes, a size that is none, or a network that fails.
    public func detect(
        _ pixels: UnsafeRawBufferPointer, width: Int, height: Int, bytesPerRow: Int, format: PixelFormat
    ) throws -> [Face] {
        guard (0...65535).contains(width), (0...65535).contains(height), (0...Int(Int32.max)).contains(bytesPerRow)
        else { throw FaceDetector.error(FACEDEPLOY_BAD_PICTURE) }
        // The last row may end where its pixels end.
        let needed = height == 0 ? 0 : bytesPerRow * (height - 1) + width * format.bytes
        guard needed <= pixels.count else { throw FaceDetector.error(FACEDEPLOY_BAD_PICTURE) }
        var picture = facedeploy_picture()
        picture.data = pixels.baseAddress?.assumingMemoryBound(to: UInt8.self)
        picture.height = Int32(height)
        picture.width = Int32(width)
        picture.stride = bytesPerRow
        picture.format = Int32(FaceDetector.format(format).rawValue)
        lock.lock()
        defer { lock.unlock() }
        var faces: UnsafePointer<facedeploy_face>?
        var count = 0
        let status = facedeploy_detect(handle, &picture, &faces, &count)
        guard status == FACEDEPLOY_OK else { throw FaceDetector.error(status) }
        return UnsafeBufferPointer(start: faces, count: count).map(FaceDetector.face)
    }

    #if canImport(CoreVideo)
    /// Faces in an upright picture of a camera, best first.
    ///
    /// - Parameter buffer: of `kCVPixelFormatType_32BGRA`.
    /// - Throws: `FaceError`: another format, a buffer that cannot be locked, or a network that fails.
    public func detect(_ buffer: CVPixelBuffer) throws -> [Face] {
        guard CVPixelBufferGetPixelFormatType(buffer) == kCVPixelFormatType_32BGRA,
            CVPixelBufferLockBaseAddress(buffer, .readOnly) == kCVReturnSuccess
        else { throw FaceDetector.error(FACEDEPLOY_BAD_PICTURE) }
        defer { CVPixelBufferUnlockBaseAddress(buffer, .readOnly) }
        let bytesPerRow = CVPixelBufferGetBytesPerRow(buffer)
        let height = CVPixelBufferGetHeight(buffer)
        let pixels = UnsafeRawBufferPointer(start: CVPixelBufferGetBaseAddress(buffer), count: bytesPerRow * height)
        let width = CVPixelBufferGetWidth(buffer)
        return try detect(pixels, width: width, height: height, bytesPerRow: bytesPerRow, format: .bgra)
    }
    #endif

    private static func error(_ status: facedeploy_status) -> FaceError {
        FaceError(status: UInt32(status.rawValue), description: String(cString: facedeploy_message(status)))
    }

    private static func format(_ format: PixelFormat) -> facedeploy_format {
        switch format {
        case .bgr: return FACEDEPLOY_BGR
        case .rgb: return FACEDEPLOY_RGB
        case .bgra: return FACEDEPLOY_BGRA
        case .rgba: return FACEDEPLOY_RGBA
        }
    }

    private static func face(_ found: facedeploy_face) -> Face {
        let points = UnsafeBufferPointer(start: found.landmarks, count: 2 * found.landmark_count)
        return Face(
            box: Box(left: found.x1, top: found.y1, right: found.x2, bottom: found.y2),
            score: found.score,
            landmarks: stride(from: 0, to: points.count, by: 2).map { Point(x: points[$0], y: points[$0 + 1]) },
            yaw: angle(found.yaw),
            pitch: angle(found.pitch),
            roll: angle(found.roll)
        )
    }

    private static func angle(_ degrees: Float) -> Float? {
        degrees.isNaN ? nil : degrees
    }
}
