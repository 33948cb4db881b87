// swift-tools-version:6.0
import PackageDescription

// `PIOEDGE_BLAS=0 swift build` leaves OpenBLAS out: the f32 mode then runs on the kernel of ours.
// `static` links it, for static executables; else it is loaded when the f32 mode first needs it.
let blas = Context.environment["PIOEDGE_BLAS"] ?? "1"
let blasSettings: [CSetting] =
  ["0": [], "static": [.define("PIO_BLAS"), .define("PIO_BLAS_STATIC")]][blas]
  ?? [.define("PIO_BLAS")]

let package = Package(
  name: "pioedge",
  products: [
    .executable(name: "pioedge", targets: ["pioedge"]),
    .library(name: "AllocationCounter", type: .dynamic, targets: ["AllocationCounter"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2")
  ],
  targets: [
    .target(name: "CPIOKernels"),
    .target(
      name: "CPIOImage",
      linkerSettings: [.linkedLibrary("jpeg"), .linkedLibrary("png"), .linkedLibrary("z")]),
    .target(
      name: "COpenBLAS", cSettings: blasSettings,
      linkerSettings: blas == "static" ? [.linkedLibrary("openblas")] : []),
    .target(name: "PIOBase"),
    .target(name: "PIOThreads", dependencies: ["PIOBase"]),
    .target(name: "PIOFormat", dependencies: ["PIOBase"]),
    .target(name: "PIOText", dependencies: ["PIOBase"]),
    .target(name: "PIOVision", dependencies: ["PIOBase", "CPIOImage", "PIOThreads"]),
    .target(
      name: "PIORuntime",
      dependencies: [
        "PIOBase", "PIOFormat", "PIOText", "PIOVision", "PIOThreads", "CPIOKernels", "COpenBLAS",
      ]),
    .target(
      name: "PIOBench", dependencies: ["PIORuntime", "PIOFormat", "PIOThreads", "CPIOKernels"]),
    .target(
      name: "PIOConvert",
      dependencies: ["PIOBase", "PIOFormat", "PIOText", "PIOThreads", "CPIOKernels"]),
    .target(
      name: "PIOEval",
      dependencies: ["PIOBase", "PIORuntime", "PIOFormat", "PIOVision"]),
    .executableTarget(
      name: "pioedge",
      dependencies: [
        "PIOBase", "PIOFormat", "PIOText", "PIOVision", "PIOThreads", "PIORuntime", "PIOConvert",
        "PIOBench", "PIOEval", "CPIOKernels",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),
    .testTarget(name: "CPIOKernelsTests", dependencies: ["CPIOKernels", "PIOThreads"]),
    .testTarget(name: "PIOThreadsTests", dependencies: ["PIOThreads"]),
    .testTarget(name: "PIOFormatTests", dependencies: ["PIOBase", "PIOFormat"]),
    .testTarget(
      name: "PIOTextTests", dependencies: ["PIOBase", "PIOText", "PIOFormat", "PIOConvert"]),
    .testTarget(name: "PIOVisionTests", dependencies: ["PIOBase", "PIOVision", "CPIOImage"]),
    .testTarget(
      name: "PIORuntimeTests",
      dependencies: [
        "PIOBase", "PIORuntime", "PIOConvert", "PIOFormat", "PIOText", "PIOVision", "PIOThreads",
        "CPIOKernels",
      ]),
    .testTarget(
      name: "PIOBenchTests", dependencies: ["PIOBench", "PIORuntime", "PIOFormat"]),
    .testTarget(
      name: "PIOConvertTests",
      dependencies: ["PIOBase", "PIOConvert", "PIOFormat", "PIOThreads", "CPIOKernels"]),
    .testTarget(
      name: "PIOEvalTests", dependencies: ["PIOBase", "PIOEval", "PIOFormat", "PIORuntime"]),
    // Preloaded by a test: counts what a run of the tool asks of the heap.
    .target(name: "AllocationCounter", path: "Tests/AllocationCounter"),
    .testTarget(name: "pioedgeTests", dependencies: ["PIOFormat", "PIOVision"]),
  ],
  swiftLanguageModes: [.v6],
  cLanguageStandard: .c11
)
