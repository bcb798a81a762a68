// swift-tools-version:5.9
import PackageDescription

// Whether the networks are compiled in (`facedeploy package --embed`); else they are resources.
let embedded = false

let package = Package(
    name: "Facedeploy",
    platforms: [.iOS(.v13), .macOS(.v11)],
    products: [.library(name: "Facedeploy", targets: ["Facedeploy"])],
    targets: [
        .target(
            name: "Facedeploy",
            dependencies: ["CFacedeploy"],
            path: "Sources/Facedeploy",
            resources: embedded ? [] : [.copy("Model")],
            swiftSettings: embedded ? [.define("FACEDEPLOY_EMBEDDED")] : []
        ),
        .target(
            name: "CFacedeploy",
            dependencies: ["ncnn", "openmp"],
            path: "Sources/CFacedeploy",
            publicHeadersPath: "include",
            cxxSettings: [.headerSearchPath("."), .headerSearchPath("model")]
        ),
        // Written by ncnn.sh.
        .binaryTarget(name: "ncnn", path: "Frameworks/ncnn.xcframework"),
        .binaryTarget(name: "openmp", path: "Frameworks/openmp.xcframework"),
    ],
    cxxLanguageStandard: .cxx17
)
