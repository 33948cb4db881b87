import PIOBase
import Foundation
import PIOVision
import Testing

/// One image and what Hugging Face's processor makes of it (tools/golden/make_image_golden.py).
struct GoldenCase: Decodable, Sendable, CustomTestStringConvertible {
  let file: String
  let side: Int
  let fit: String
  let filter: UInt8
  let resizeTo: Int
  let normalized: Bool
  let rows: [Int]
  let width: Int
  let height: Int
  let offset: Int

  var testDescription: String {
    "\(file) \(fit) \(resizeTo) → \(side), filter \(filter)\(normalized ? ", normalized" : "")"
  }
}

struct GoldenImages: Decodable, Sendable {
  let mean: [Float]
  let std: [Float]
  let cases: [GoldenCase]

  static let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appendingPathComponent("Golden/images")

  static let all: GoldenImages = {
    let decoder = JSONDecoder()
    decoder.keyDecodingStrategy = .convertFromSnakeCase
    return try! decoder.decode(GoldenImages.self, from: bytes(of: "cases.json"))
  }()

  static let expected = bytes(of: "expected.bin")

  static func path(_ file: String) -> String { folder.appendingPathComponent(file).path }

  static func bytes(of file: String) -> Data {
    try! Data(contentsOf: folder.appendingPathComponent(file))
  }

  func preparation(_ golden: GoldenCase, patchSize: Int) -> ImagePreparation {
    var preparation = ImagePreparation(side: golden.side, patchSize: patchSize)
    preparation.steps.fit = golden.fit == "pad" ? .pad : golden.fit == "stretch" ? .stretch : .crop
    preparation.steps.filter = ImagePreprocessing.Filter(rawValue: golden.filter)!
    preparation.steps.resizeTo = golden.resizeTo
    preparation.steps.padColor = (
      UInt8(mean[0] * 255), UInt8(mean[1] * 255), UInt8(mean[2] * 255)
    )
    if golden.normalized {
      preparation.steps.mean = (mean[0], mean[1], mean[2])
      preparation.steps.std = (std[0], std[1], std[2])
    } else {
      preparation.steps.rescaleFactor = 1
    }
    return preparation
  }

  /// `(channel, row, x)` of the rows the case holds.
  func expected(_ golden: GoldenCase) -> [Float] {
    let rows = golden.rows.isEmpty ? golden.side : golden.rows.count
    let count = 3 * rows * golden.side
    let data = Self.expected.dropFirst(golden.offset)
    guard golden.normalized else { return data.prefix(count).map(Float.init) }
    return [Float](unsafeUninitializedCapacity: count) { out, used in
      _ = data.prefix(4 * count).copyBytes(to: UnsafeMutableRawBufferPointer(out))
      used = count
    }
  }
}

/// The patches as a caller has them: zeroed scratch of the stated size, NaN where nothing is written.
func prepared(
  _ preparation: ImagePreparation, _ image: OpenImage
) throws -> (info: ImageInfo, patches: [Float]) {
  let byteCount = imageScratchByteCount(preparation, limits: image.limits)
  let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
  defer { scratch.deallocate() }
  var patches = [Float](repeating: .nan, count: preparation.patchCount * preparation.patchDim)
  try patches.withUnsafeMutableBufferPointer {
    try prepareImage(image, preparation, scratch: scratch, into: $0)
  }
  return (image.info, patches)
}

func prepared(
  path: String, _ preparation: ImagePreparation, limits: ImageLimits = ImageLimits()
) throws -> (info: ImageInfo, patches: [Float]) {
  try prepared(preparation, OpenImage(path: path, limits: limits))
}

func prepared(
  bytes: Data, _ preparation: ImagePreparation, limits: ImageLimits = ImageLimits()
) throws -> (info: ImageInfo, patches: [Float]) {
  try bytes.withUnsafeBytes { bytes in
    try prepared(preparation, OpenImage(bytes: bytes, name: "memory", limits: limits))
  }
}

/// `(patch, channel, y, x)` back to `(channel, row, x)`, of the rows asked for (empty: all).
func image(_ patches: [Float], _ preparation: ImagePreparation, rows: [Int] = []) -> [Float] {
  let (size, side) = (preparation.patchSize, preparation.side)
  let rows = rows.isEmpty ? Array(0..<side) : rows
  var out: [Float] = []
  for channel in 0..<3 {
    for y in rows {
      for x in 0..<side {
        let patch = y / size * preparation.patchesPerSide + x / size
        out.append(patches[((patch * 3 + channel) * size + y % size) * size + x % size])
      }
    }
  }
  return out
}

/// Holds tiles, `(tile, y, x, channel)` bytes, against a processor's: `(tile, channel, y, x)` bytes that may differ by `tolerance`, or
/// f32 values, which must be equal, where it normalised them.
func compareTiles(
  _ pixels: [UInt8], count: Int, _ preparation: ImagePreparation, with expected: Data,
  normalized: Bool, tolerance: Int
) {
  guard !normalized else {
    for tile in 0..<count { compareNormalized(pixels, tile, preparation, with: expected) }
    return
  }
  let area = preparation.side * preparation.side
  var worst = 0
  for (index, value) in expected.prefix(3 * count * area).enumerated() {
    let (tile, channel, pixel) = (index / (3 * area), index / area % 3, index % area)
    worst = max(worst, abs(Int(value) - Int(pixels[3 * (tile * area + pixel) + channel])))
  }
  #expect(worst <= tolerance, "worst difference \(worst)")
}

private func compareNormalized(
  _ pixels: [UInt8], _ tile: Int, _ preparation: ImagePreparation, with expected: Data
) {
  let count = preparation.patchCount * preparation.patchDim
  var patches = [Float](repeating: .nan, count: count)
  var levels = [Float](repeating: 0, count: 768)
  patches.withUnsafeMutableBufferPointer { patches in
    tilePatches(tile, of: pixels, preparation, levels: &levels, into: patches)
  }
  let values = [Float](unsafeUninitializedCapacity: count) { out, used in
    _ = expected.dropFirst(4 * count * tile).prefix(4 * count)
      .copyBytes(to: UnsafeMutableRawBufferPointer(out))
    used = count
  }
  #expect(image(patches, preparation) == values, "tile \(tile)")
}
