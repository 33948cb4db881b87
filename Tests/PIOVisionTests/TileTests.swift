import PIOBase
import Foundation
import PIOVision
import Testing

/// What transformers makes of an image of some size (tools/golden/make_tile_golden.py).
private struct GoldenLayouts: Decodable {
  struct Grid: Decodable {
    let side: Int
    let patch: Int
    let resolutions: [[Int]]
  }
  struct Case: Decodable {
    let grid: String
    let width: Int
    let height: Int
    let best: [Int]
    let resized: [Int]
    let lines: Int
    let columns: Int
    let first: [Int]
    let rows: Int
  }
  let grids: [String: Grid]
  let cases: [Case]
}

private struct GoldenTiles: Decodable {
  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    let file: String
    let side: Int
    let resolutions: [[Int]]
    let filter: UInt8
    let normalized: Bool
    let tiles: Int
    let offset: Int

    var testDescription: String { "\(file), side \(side), filter \(filter), \(normalized)" }
  }
  let mean: [Float]
  let std: [Float]
  let cases: [Case]

  static let all: GoldenTiles = try! decoded("pixels.json")
  static let expected = try! Data(contentsOf: folder.appendingPathComponent("pixels.bin"))
}

private let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().appendingPathComponent("Golden/tiles")

private func decoded<T: Decodable>(_ name: String) throws -> T {
  try JSONDecoder().decode(
    T.self, from: Data(contentsOf: folder.appendingPathComponent(name)))
}

private func sizes(_ list: [[Int]]) -> [PixelSize] {
  list.map { PixelSize(height: $0[0], width: $0[1]) }
}

/// Pixels of all tiles, with room behind them that must not be touched.
private func tiles(
  _ file: String, _ preparation: ImagePreparation, _ resolutions: [PixelSize],
  limits: ImageLimits = ImageLimits()
) throws -> (layout: TileLayout, pixels: [UInt8]) {
  let byteCount = tileScratchByteCount(preparation, resolutions: resolutions, limits: limits)
  let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 64)
  defer { scratch.deallocate() }
  let size = tilePixelByteCount(preparation, resolutions: resolutions)
  var pixels = [UInt8](repeating: 77, count: size + 100)
  let layout = try pixels.withUnsafeMutableBufferPointer {
    try prepareTiles(
      OpenImage(path: GoldenImages.path(file), limits: limits), preparation,
      resolutions: resolutions,
      scratch: scratch, into: UnsafeMutableBufferPointer(rebasing: $0[..<size]))
  }
  let used = 3 * layout.tileCount * preparation.side * preparation.side
  #expect(pixels[used...].allSatisfy { $0 == 77 })
  return (layout, Array(pixels[..<used]))
}

@Suite struct TileTests {
  @Test func layoutsAreThoseOfTransformers() throws {
    let golden: GoldenLayouts = try decoded("layouts.json")
    #expect(golden.cases.count >= 200)
    for one in golden.cases {
      let grid = golden.grids[one.grid]!
      let layout = TileLayout(
        PixelSize(height: one.height, width: one.width), resolutions: sizes(grid.resolutions),
        side: grid.side)
      let name = "\(one.grid), \(one.width) x \(one.height)"
      let (canvas, resized) = (layout.canvas, layout.resized)
      #expect(canvas.height == one.best[0] && canvas.width == one.best[1], "\(name)")
      #expect(resized.height == one.resized[0] && resized.width == one.resized[1], "\(name)")
      let perSide = grid.side / grid.patch
      let patches = layout.patches(perSide: perSide)
      #expect(patches.rows.count == one.lines && patches.columns.count == one.columns, "\(name)")
      if patches.patchCount > 0 {
        let first = [patches.rows.lowerBound, patches.columns.lowerBound]
        #expect(first == one.first, "\(name)")
      }
      let rows = perSide * perSide + patches.rows.count * (patches.columns.count + 1)
      #expect(rows == one.rows, "\(name)")
    }
  }

  /// To the bit for PNG; the system's libjpeg need not be Pillow's.
  @Test(arguments: GoldenTiles.all.cases)
  fileprivate func tilesAreThoseOfTransformers(_ golden: GoldenTiles.Case) throws {
    let all = GoldenTiles.all
    var preparation = ImagePreparation(side: golden.side, patchSize: 7)
    preparation.steps.filter = ImagePreprocessing.Filter(rawValue: golden.filter)!
    preparation.steps.mean = (all.mean[0], all.mean[1], all.mean[2])
    preparation.steps.std = (all.std[0], all.std[1], all.std[2])
    let (layout, pixels) = try tiles(golden.file, preparation, sizes(golden.resolutions))
    try #require(layout.tileCount == golden.tiles)
    compareTiles(
      pixels, count: golden.tiles, preparation, with: GoldenTiles.expected.dropFirst(golden.offset),
      normalized: golden.normalized, tolerance: golden.file.hasSuffix(".png") ? 0 : 1)
  }

  /// The scratch is sized from the limits alone: the longest edges they allow must not overrun it.
  @Test func longImagesStayInsideTheScratch() throws {
    let preparation = ImagePreparation(side: 14, patchSize: 7)
    for resolutions in [[[14, 14]], [[14, 14 * 500], [14 * 500, 14]], [[7000, 7000]]] {
      for file in ["flat.jpg", "tall.png", "one_pixel.jpg", "long_orientation_8.jpg"] {
        var limits = ImageLimits()
        limits.maxEdge = 500
        let (layout, _) = try tiles(file, preparation, sizes(resolutions), limits: limits)
        #expect(layout.tileCount > 1)
      }
    }
  }

  @Test func impossibleResolutionsAreRefused() {
    let preparation = ImagePreparation(side: 14, patchSize: 7)
    for resolutions in [[], [[14, 15]], [[0, 14]], [[14, -14]], [[14 * 1000, 14]]] {
      var scratch = [UInt8](repeating: 0, count: 1 << 20)
      var pixels = [UInt8](repeating: 0, count: 1 << 20)
      #expect(throws: ImageError.self) {
        _ = try scratch.withUnsafeMutableBytes { scratch in
          try pixels.withUnsafeMutableBufferPointer { pixels in
            try prepareTiles(
              OpenImage(path: GoldenImages.path("small.png")), preparation,
              resolutions: sizes(resolutions), scratch: scratch, into: pixels)
          }
        }
      }
    }
  }
}
