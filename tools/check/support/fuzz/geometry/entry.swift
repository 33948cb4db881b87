import PIOBase
@testable import PIOFormat
@testable import PIORuntime
@testable import PIOVision

/// The input: 16-bit numbers: the family, an image's height and width, and what the family's configuration has. The
/// image's rows are as many as the plan has room for, each token lies in a grid, and a token's row is its own.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  var numbers = Numbers(UnsafeBufferPointer(start: input, count: count))
  let family = numbers.next(0...2)
  let size = PixelSize(height: numbers.next(1...65500), width: numbers.next(1...65500))
  switch family {
  case 0: checkNext(size, &numbers)
  case 1: checkSmol(size, &numbers)
  default: checkQwen(size, &numbers)
  }
  return 0
}

private func checkNext(_ size: PixelSize, _ numbers: inout Numbers) {
  var config = LLaVANextConfig()
  config.tower.patchSize = numbers.next(1...32)
  config.tower.imageSize = config.tower.patchSize * numbers.next(1...5)
  for _ in 0..<numbers.next(1...6) {
    config.resolutions.append(
      PixelSize(
        height: config.tower.imageSize * numbers.next(1...6),
        width: config.tower.imageSize * numbers.next(1...6)))
  }
  let tiles = config.tiles(size)
  precondition(tiles.tileCount <= 37 && tiles.resized.width <= tiles.canvas.width)
  precondition(tiles.resized.height <= tiles.canvas.height)
  precondition(tiles.resized.width >= 1 && tiles.resized.height >= 1)
  check(.llavaNext(config), size)
}

private func checkSmol(_ size: PixelSize, _ numbers: inout Numbers) {
  var config = SmolVLMConfig()
  config.tower.patchSize = numbers.next(1...32)
  config.shuffle = numbers.next(1...4)
  config.tower.imageSize = config.tower.patchSize * config.shuffle * numbers.next(1...9)
  config.longestEdge = numbers.next(1...min(8192, 16 * config.tower.imageSize - 1))
  config.splits = numbers.next(0...3) < 3
  // Few tiles for most inputs: all ways to lay them are gone through.
  guard config.mostTiles <= (numbers.next(0...31) == 31 ? 16 : 3) else { return }
  config.markers = TileMarkers(mostTiles: config.mostTiles) { [Int32($0.utf8.count)] }
  let isLimited = numbers.next(0...1) == 1
  if isLimited { _ = config.limitImages(tokens: numbers.next(1...4096)) }
  let split = config.split(size)
  precondition(split.tileCount <= config.maxTileCount && config.allows(tileCount: split.tileCount))
  precondition(split.resized.height >= 1 && split.resized.width >= 1)
  precondition(
    max(split.resized.height, split.resized.width) <= config.longestEdgeInUse + 1,
    "an edge that the scratch has no room for")
  check(.smolVLM(config), size)
}

private func checkQwen(_ size: PixelSize, _ numbers: inout Numbers) {
  var config = Qwen2VLConfig()
  config.tower.patchSize = numbers.next(1...32)
  config.tower.merge = numbers.next(1...4)
  let cell = config.tower.cellSide * config.tower.cellSide
  config.pixels.least = numbers.next(1...8) * cell
  config.pixels.most = config.pixels.least + numbers.next(0...256) * cell + numbers.next(0...999)
  let isLimited = numbers.next(0...1) == 1
  if isLimited { _ = config.pixels.limit(tokens: numbers.next(1...4096), config.tower) }
  guard let resized = config.pixels.resize(size, config.tower) else { return }
  precondition(resized.height >= config.tower.cellSide && resized.width >= config.tower.cellSide)
  precondition(
    max(resized.height, resized.width) <= config.pixels.longestEdge(config.tower),
    "an edge that the scratch has no room for")
  check(.qwen2VL(config), size)
}

private func check(_ config: VisionConfig, _ size: PixelSize) {
  let layout = config.layout(size)
  precondition(layout.rowCount <= config.maxRowCount, "more rows than the plan has room for")
  precondition(layout.tokenCount <= config.maxVisualTokenCount)
  precondition(layout.tokenCount <= layout.rowCount)
  var (rows, tokens) = (0, 0)
  layout.forEachRow { kind in
    rows += 1
    guard case .token(let token) = kind else { return }
    precondition(token == tokens)
    // Some alone, or hundreds of tiles are searched for each of thousands.
    let isLooked = token & 31 == 0 || token == layout.tokenCount - 1
    precondition(!isLooked || layout.cell(of: token) != nil)
    tokens += 1
  }
  precondition(rows == layout.rowCount && tokens == layout.tokenCount)
}

private struct Numbers {
  private let bytes: UnsafeBufferPointer<UInt8>
  private var position = 0

  init(_ bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  mutating func next(_ range: ClosedRange<Int>) -> Int {
    guard position + 1 < bytes.count else { return range.lowerBound }
    let value = Int(bytes[position]) | Int(bytes[position + 1]) << 8
    position += 2
    return range.lowerBound + value % range.count
  }
}
