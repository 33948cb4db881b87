import Foundation
import PIOBase
import Testing

@testable import PIOVision

/// What transformers makes of an image of some size (tools/golden/make_split_golden.py).
private struct GoldenSplits: Decodable {
  struct Processor: Decodable {
    let side: Int
    let longest: Int
    let splits: Bool
  }
  struct Case: Decodable {
    let processor: String
    let width: Int
    let height: Int
    let resized: [Int]
    let canvas: [Int]
    let rows: Int
    let columns: Int
  }
  let processors: [String: Processor]
  let cases: [Case]
}

private struct GoldenPixels: Decodable {
  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    let file: String?
    /// Width and height of an image that is drawn here.
    let drawn: [Int]?
    let side: Int
    let longest: Int
    let splits: Bool
    let normalized: Bool
    let tiles: Int
    let offset: Int

    var testDescription: String {
      "\(file ?? "drawn \(drawn!)"), side \(side), longest \(longest), \(splits), \(normalized)"
    }
  }
  let cases: [Case]

  static let all: GoldenPixels = try! decoded("pixels.json")
  static let expected = try! Data(contentsOf: folder.appendingPathComponent("pixels.bin"))
}

private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("Golden/splits")

private func decoded<T: Decodable>(_ name: String) throws -> T {
  try JSONDecoder().decode(T.self, from: Data(contentsOf: folder.appendingPathComponent(name)))
}

/// Pixels of all tiles, with room behind them that must not be touched; scratch of the size the limits say.
private func tiles(
  _ image: OpenImage, _ preparation: ImagePreparation, longest: Int, splits: Bool
) throws -> (layout: SplitLayout, pixels: [UInt8]) {
  let byteCount = splitScratchByteCount(preparation, longestEdge: longest, limits: image.limits)
  let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
  defer { scratch.deallocate() }
  let layout = SplitLayout(
    PixelSize(height: image.info.height, width: image.info.width), longestEdge: longest,
    splits: splits, side: preparation.side)
  let size = layout.tileCount * 3 * preparation.side * preparation.side
  var pixels = [UInt8](repeating: 77, count: size + 100)
  try pixels.withUnsafeMutableBufferPointer {
    try prepareSplit(
      image, preparation, layout, scratch: scratch,
      into: UnsafeMutableBufferPointer(rebasing: $0[..<size]))
  }
  #expect(pixels[size...].allSatisfy { $0 == 77 })
  return (layout, Array(pixels[..<size]))
}

private func lanczos(side: Int) -> ImagePreparation {
  var preparation = ImagePreparation(side: side, patchSize: 4)
  preparation.steps.fit = .stretch
  preparation.steps.filter = .lanczos
  preparation.steps.mean = (0.5, 0.5, 0.5)
  preparation.steps.std = (0.5, 0.5, 0.5)
  return preparation
}

@Suite struct SplitTests {
  /// As tools/golden/make_split_golden.py draws it.
  static func drawn(_ width: Int, _ height: Int) throws -> [UInt8] {
    var pixels: [UInt8] = []
    for y in 0..<height {
      for x in 0..<width {
        pixels.append(UInt8(x * 255 / max(1, width - 1)))
        pixels.append(UInt8((x * x * 3 + y * 7) % 256))
        pixels.append((x / 3 + y / 5) % 2 == 1 ? 255 : 0)
      }
    }
    return try encodePNG(pixels, width: width, height: height)
  }

  @Test func layoutsAreThoseOfTransformers() throws {
    let golden: GoldenSplits = try decoded("layouts.json")
    #expect(golden.cases.count >= 300)
    for one in golden.cases {
      let processor = golden.processors[one.processor]!
      let layout = SplitLayout(
        PixelSize(height: one.height, width: one.width), longestEdge: processor.longest,
        splits: processor.splits, side: processor.side)
      let name = "\(one.processor), \(one.width) x \(one.height)"
      #expect([layout.resized.height, layout.resized.width] == one.resized, "\(name)")
      #expect([layout.canvas.height, layout.canvas.width] == one.canvas, "\(name)")
      #expect(layout.rows == one.rows && layout.columns == one.columns, "\(name)")
    }
  }

  /// To the bit for PNG; the system's libjpeg need not be Pillow's.
  @Test(arguments: GoldenPixels.all.cases)
  fileprivate func tilesAreThoseOfTransformers(_ golden: GoldenPixels.Case) throws {
    let preparation = lanczos(side: golden.side)
    let bytes = try golden.drawn.map { try Self.drawn($0[0], $0[1]) } ?? []
    let (layout, pixels) = try bytes.withUnsafeBytes { bytes in
      let image =
        try golden.file.map { try OpenImage(path: GoldenImages.path($0)) }
        ?? OpenImage(bytes: bytes, name: "drawn")
      return try tiles(image, preparation, longest: golden.longest, splits: golden.splits)
    }
    try #require(layout.tileCount == golden.tiles)
    compareTiles(
      pixels, count: golden.tiles, preparation,
      with: GoldenPixels.expected.dropFirst(golden.offset),
      normalized: golden.normalized, tolerance: (golden.file?.hasSuffix(".jpg") ?? false) ? 2 : 0)
  }

  /// The scratch is sized from the limits alone: the longest edges they allow must not overrun it.
  @Test func longImagesStayInsideTheScratch() throws {
    for (side, longest) in [(14, 14), (14, 57), (33, 101), (9, 144)] {
      for (width, height) in [(500, 1), (1, 500), (500, 499), (499, 7), (1, 1), (500, 500)] {
        var limits = ImageLimits()
        limits.maxEdge = 500
        try Self.drawn(width, height).withUnsafeBytes { bytes in
          let image = try OpenImage(bytes: bytes, name: "drawn", limits: limits)
          let (layout, _) = try tiles(image, lanczos(side: side), longest: longest, splits: true)
          #expect(layout.tileCount >= 1)
        }
      }
    }
  }
}
