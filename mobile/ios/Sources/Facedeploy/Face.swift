/// In pixels of the picture.
public struct Point: Equatable, Sendable {
    public let x: Double
    public let y: Double
}

/// In pixels of the picture, from the top left corner.
public struct Box: Equatable, Sendable {
    public let left: Double
    public let top: Double
    public let right: Double
    public let bottom: Double
}

/// Angles are in degrees, and nil where the model has none; landmarks are empty where it has none.
public struct Face: Equatable, Sendable {
    public let box: Box
    public let score: Float
    public let landmarks: [Point]
    public let yaw: Float?
    public let pitch: Float?
    public let roll: Float?
}

/// Bytes of a pixel, in their order. Alpha is not read.
public enum PixelFormat: Sendable {
    case bgr
    case rgb
    case bgra
    case rgba

    var bytes: Int {
        switch self {
        case .bgr, .rgb: return 3
        case .bgra, .rgba: return 4
        }
    }
}

/// What went wrong.
public struct FaceError: Error, CustomStringConvertible, Sendable {
    /// A number of facedeploy.h.
    public let status: UInt32
    public let description: String
}
