import PIOBase
import PIOFormat
import PIOVision
import Testing

@testable import PIORuntime

/// Whatever an image's size and the limit on its tokens, it comes to something that the plan has room for.
struct ImageRoomTests {
  private var random = SplitMix64(state: 11)

  private mutating func edge() -> Int {
    // As many short edges as long ones.
    1 + Int(random.next() % (1 << (1 + random.next() % 16)))
  }

  private mutating func size() -> PixelSize { PixelSize(height: edge(), width: edge()) }

  /// Nearly as long as may be, so that the short edge is a token or a rounded half.
  private mutating func strip() -> PixelSize {
    let short = 1 + Int(random.next() % 400)
    let long = 200 * short - Int(random.next() % UInt64(10 * short))
    return random.next() % 2 == 0
      ? PixelSize(height: short, width: long) : PixelSize(height: long, width: short)
  }

  private func check(_ vision: VisionConfig, _ size: PixelSize, _ name: String) {
    let layout = vision.layout(size)
    let known = vision.layouts.filter { $0.tokenCount == layout.tokenCount }
    #expect(known.count == 1, "\(name)")
    #expect(layout.rowCount <= known.first?.rowCount ?? 0, "\(name)")
    #expect(layout.rowCount <= vision.maxRowCount, "\(name)")
  }

  @Test mutating func tilesWithTextBetweenThem() {
    for _ in 0..<3000 {
      var smol = SmolVLMConfig()
      smol.tower.patchSize = 1 + Int(random.next() % 16)
      smol.shuffle = 1 + Int(random.next() % 4)
      smol.tower.imageSize =
        smol.tower.patchSize * smol.shuffle * (1 + Int(random.next() % 8))
        + Int(random.next() % UInt64(smol.tower.patchSize))
      smol.longestEdge = 1 + Int(random.next() % UInt64(min(8192, 7 * smol.tower.imageSize)))
      smol.splits = random.next() % 8 > 0
      smol.markers = TileMarkers(mostTiles: smol.mostTiles) {
        [Int32]($0.utf8.prefix(2).map { Int32($0) })
      }
      var vision = VisionConfig.smolVLM(smol)
      if random.next() % 2 == 0 {
        let limit = smol.tileTokenCount * (1 + Int(random.next() % 20)) + Int(random.next() % 3)
        let isKept = vision.limitImages(tokens: limit)
        #expect(isKept)
      }
      guard case .smolVLM(let limited) = vision else { return }
      let image = size()
      let split = limited.split(image)
      #expect(split.tileCount <= limited.maxTileCount)
      #expect(limited.allows(tileCount: split.tileCount))
      #expect(
        max(split.resized.height, split.resized.width) <= limited.longestEdgeInUse + 1)
      #expect(limited.layout(image).tokenCount == split.tileCount * smol.tileTokenCount)
      let name =
        "\(image), \(limited.longestEdge) of \(limited.tower.imageSize), splits \(limited.splits), at most"
        + " \(limited.tokenLimit ?? -1) of \(limited.tileTokenCount) a tile: \(split.rows) x \(split.columns) of"
        + " \(limited.shapes)"
      check(vision, image, name)
    }
  }

  @Test mutating func imagesAtTheirOwnShape() {
    for _ in 0..<3000 {
      var qwen = Qwen2VLConfig()
      qwen.tower.patchSize = 1 + Int(random.next() % 20)
      qwen.tower.merge = 1 + Int(random.next() % 3)
      let cell = qwen.tower.cellSide * qwen.tower.cellSide
      qwen.pixels.least = 1 + Int(random.next() % UInt64(40 * cell))
      qwen.pixels.most = max(qwen.pixels.least, cell) + Int(random.next() % UInt64(900 * cell))
      var vision = VisionConfig.qwen2VL(qwen)
      if random.next() % 2 == 0 {
        _ = vision.limitImages(tokens: 1 + Int(random.next() % 300))
      }
      guard case .qwen2VL(let limited) = vision else { return }
      // Whole roots are where f64 may round up.
      if random.next() % 4 == 0 {
        let tokens = 1 + Int(random.next() % 400)
        qwen.pixels.most = max(qwen.pixels.least, cell, (tokens * tokens * cell + 199) / 200)
        vision = .qwen2VL(qwen)
      }
      let image = random.next() % 2 == 0 ? strip() : size()
      guard let resized = limited.pixels.resize(image, limited.tower) else { continue }
      let name = "\(image) to \(resized), \(limited.pixels.least) to \(limited.pixels.most)"
      let most = limited.pixels.mostTokens(limited.tower)
      #expect(resized.height * resized.width <= most * cell, "\(name)")
      #expect(
        max(resized.height, resized.width) <= limited.pixels.longestEdge(limited.tower), "\(name)")
      check(vision, image, name)
    }
  }

  /// Where √(200 · most) is a whole number of tokens, f64 may round one up.
  @Test(arguments: [(10, 27_378), (20, 109_512), (30, 246_402)])
  func theLongestStripsAreCounted(_ patch: Int, most: Int) {
    var qwen = Qwen2VLConfig()
    qwen.tower.patchSize = patch
    (qwen.pixels.least, qwen.pixels.most) = (1, most)
    for short in 1...300 {
      for image in [
        PixelSize(height: 200 * short, width: short), PixelSize(height: short, width: 200 * short),
      ] {
        check(.qwen2VL(qwen), image, "\(image), \(most) pixels of \(patch)")
      }
    }
  }
}
