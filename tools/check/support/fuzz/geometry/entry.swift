import PIOBase
@testable import PIOFormat
@testable import PIORuntime
@testable import PIOVision

/// The input: 16-bit numbers: an image's width and height, patch, patches a side, and the resolutions in tiles. The
/// image's rows are as many as the plan has room for, each token lies in a grid, and a token's row is its own.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  var numbers = Numbers(UnsafeBufferPointer(start: input, count: count))
  let size = PixelSize(height: numbers.next(1...65500), width: numbers.next(1...65500))
  var config = LLaVANextConfig()
  config.tower.patchSize = numbers.next(1...32)
  config.tower.imageSize = config.tower.patchSize * numbers.next(1...9)
  for _ in 0..<numbers.next(1...6) {
    config.resolutions.append(
      PixelSize(
        height: config.tower.imageSize * numbers.next(1...6),
        width: config.tower.imageSize * numbers.next(1...6)))
  }
  check(config, size)
  return 0
}

private func check(_ config: LLaVANextConfig, _ size: PixelSize) {
  let tiles = config.tiles(size)
  precondition(tiles.tileCount <= 37 && tiles.resized.width <= tiles.canvas.width)
  precondition(tiles.resized.height <= tiles.canvas.height)
  precondition(tiles.resized.width >= 1 && tiles.resized.height >= 1)
  let layout = config.layout(size)
  precondition(layout.rowCount <= config.maxRowCount, "more rows than the plan has room for")
  precondition(layout.tokenCount <= layout.rowCount)
  var (rows, tokens) = (0, 0)
  layout.forEachRow { kind in
    rows += 1
    guard case .token(let token) = kind else { return }
    precondition(token == tokens && layout.cell(of: token) != nil)
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
