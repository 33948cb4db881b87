import Foundation
import PIOBase
import Testing

@testable import PIOVision

/// What transformers' Qwen2-VL processor makes of images (tools/golden/make_resize_golden.py).
private struct GoldenSizes: Decodable {
  struct Processor: Decodable {
    let side: Int
    let least: Int
    let most: Int
  }
  struct Case: Decodable {
    let processor: String
    let width: Int
    let height: Int
    let resized: [Int]?
  }
  let processors: [String: Processor]
  let cases: [Case]
}

private struct GoldenRasters: Decodable {
  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    let drawn: [Int]
    let normalized: Bool
    let lines: Int
    let columns: Int
    let offset: Int

    var testDescription: String { "drawn \(drawn), \(normalized)" }
  }
  let cases: [Case]

  static let all: GoldenRasters = try! decoded("pixels.json")
  static let expected = try! Data(contentsOf: folder.appendingPathComponent("pixels.bin"))
}

private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("Golden/resizes")

private func decoded<T: Decodable>(_ name: String) throws -> T {
  try JSONDecoder().decode(T.self, from: Data(contentsOf: folder.appendingPathComponent(name)))
}

@Suite struct ResizeGoldenTests {
  @Test func sizesAreThoseOfTransformers() throws {
    let golden: GoldenSizes = try decoded("sizes.json")
    #expect(golden.cases.count >= 300)
    for one in golden.cases {
      let processor = golden.processors[one.processor]!
      let found = SmartResize(
        PixelSize(height: one.height, width: one.width), cellSide: processor.side,
        leastPixels: processor.least, mostPixels: processor.most)
      let edges = found.map { [$0.resized.height, $0.resized.width] }
      #expect(edges == one.resized, "\(one.processor), \(one.width) x \(one.height)")
    }
  }

  /// To the bit, patches of 6 pixels in blocks of 2 × 2.
  @Test(arguments: GoldenRasters.all.cases)
  fileprivate func pixelsAreThoseOfTransformers(_ golden: GoldenRasters.Case) throws {
    let size = PixelSize(height: 6 * golden.lines, width: 6 * golden.columns)
    let pixels = try raster(golden.drawn, size)
    let data = GoldenRasters.expected.dropFirst(golden.offset)
    let area = size.height * size.width
    guard golden.normalized else {
      let found = (0..<3).flatMap { channel in (0..<area).map { pixels[3 * $0 + channel] } }
      return #expect(found == Array(data.prefix(3 * area)))
    }
    var steps = ImagePreprocessing()
    steps.mean = (0.48145466, 0.4578275, 0.40821073)
    steps.std = (0.26862954, 0.26130258, 0.27577711)
    var levels = [Float](repeating: 0, count: 768)
    steps.fill(levels: &levels)
    var found: [Float] = []
    for cell in 0..<(golden.lines * golden.columns / 4) {
      let (line, column) = cell.quotientAndRemainder(dividingBy: golden.columns / 2)
      for inside in 0..<4 {
        var out = [Float](repeating: .nan, count: 108)
        patch(
          line: 2 * line + inside / 2, column: 2 * column + inside % 2, side: 6, of: pixels,
          width: size.width, levels: levels, into: &out)
        found += out
      }
    }
    let expected = [Float](unsafeUninitializedCapacity: 3 * area) { out, used in
      _ = data.prefix(12 * area).copyBytes(to: UnsafeMutableRawBufferPointer(out))
      used = 3 * area
    }
    #expect(found == expected)
  }

  private func raster(_ drawn: [Int], _ size: PixelSize) throws -> [UInt8] {
    var pixels = [UInt8](repeating: 77, count: 3 * size.height * size.width + 100)
    try SplitTests.drawn(drawn[0], drawn[1]).withUnsafeBytes { bytes in
      let image = try OpenImage(bytes: bytes, name: "drawn")
      let longest = max(size.height, size.width)
      let byteCount = rasterScratchByteCount(
        longest: longest, filter: .bicubic, limits: image.limits)
      let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
      defer { scratch.deallocate() }
      try pixels.withUnsafeMutableBufferPointer {
        try prepareRaster(image, .bicubic, size: size, scratch: scratch, into: $0)
      }
    }
    #expect(pixels.suffix(100).allSatisfy { $0 == 77 })
    return Array(pixels.dropLast(100))
  }
}
