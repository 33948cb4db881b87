import PIOBase
import PIOFormat
import PIOVision

/// An image of any size to rows of the decoder, for the Qwen-VL families.
struct QwenEncoder<Layer: QwenLayer> {
  /// The image as one square, for drawings alone.
  let preparation: ImagePreparation
  private let tower: QwenTower<Layer>
  private let config: QwenTowerConfig
  private let range: PixelRange
  private let window: Int
  private let imageScratch: UnsafeMutableRawBufferPointer
  private let pixels: UnsafeMutableBufferPointer<UInt8>

  init(
    _ config: QwenTowerConfig, _ range: PixelRange, window: Int, tower: QwenTower<Layer>,
    _ regions: QwenRegions, arena: borrowing Arena
  ) {
    (self.config, self.range, self.window, self.tower) = (config, range, window, tower)
    imageScratch = UnsafeMutableRawBufferPointer(arena.buffer(regions.image))
    pixels = arena.buffer(regions.pixels)
    let side = 448
    preparation = ImagePreparation(range.preprocessing(side: side), side: side, patchSize: 28)
  }

  func load(_ image: OpenImage) throws(ImageError) {
    let size = PixelSize(height: image.info.height, width: image.info.width)
    guard let resized = range.resize(size, config) else {
      throw .tooLong(path: image.name, width: size.width, height: size.height)
    }
    try prepareRaster(image, range.filter, size: resized, scratch: imageScratch, into: pixels)
  }

  func encode(
    _ image: LoadedImage, into out: Rows, _ deepstack: Deepstack.Part,
    _ cancellation: Cancellation?
  ) throws(RuntimeError) {
    let grid = image.layout.overviewGrid.grid
    try tower.encode(
      CellGrid(lines: grid.lines, columns: grid.lineLength, window: window), into: out, deepstack,
      cancellation)
  }
}

extension PixelRange {
  /// What an image of this size is resized to; nil: it is too long.
  func resize(_ size: PixelSize, _ tower: QwenTowerConfig) -> PixelSize? {
    SmartResize(size, cellSide: tower.cellSide, leastPixels: least, mostPixels: most)?.resized
  }

  /// An image that is too long is refused when it is loaded.
  func layout(_ size: PixelSize, _ tower: QwenTowerConfig) -> VisualLayout {
    let resized =
      resize(size, tower) ?? PixelSize(height: tower.cellSide, width: tower.cellSide)
    return layout(
      lines: resized.height / tower.cellSide, columns: resized.width / tower.cellSide)
  }

  private func layout(lines: Int, columns: Int) -> VisualLayout {
    VisualLayout([.grid(.init(lines: lines, lineLength: columns))], places: .byGrid)
  }

  /// One for each count of tokens: neither plan nor schedule depends on the shape.
  func layouts(_ tower: QwenTowerConfig) -> [VisualLayout] {
    (1...mostTokens(tower)).map { layout(lines: 1, columns: $0) }
  }
}
