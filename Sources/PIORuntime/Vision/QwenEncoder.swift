import PIOBase
import PIOFormat
import PIOVision

/// An image of any size to rows of the decoder, for the Qwen-VL families.
struct QwenEncoder<Layer: QwenLayer> {
  /// The image as one square, for drawings alone.
  let preparation: ImagePreparation
  private let tower: QwenTower<Layer>
  private let zip: GridZip?
  private let config: QwenTowerConfig
  private let range: PixelRange
  private let window: Int
  private let imageScratch: UnsafeMutableRawBufferPointer
  private let pixels: UnsafeMutableBufferPointer<UInt8>

  init(
    _ config: QwenTowerConfig, _ range: PixelRange, window: Int, tower: QwenTower<Layer>,
    observed: ObservedLayers?, _ regions: QwenRegions, _ parts: VisionParts,
    arena: borrowing Arena
  ) {
    if let observed, let regions = regions.zip {
      zip = GridZip(observed, operations: parts.operations, regions: regions, arena: arena)
    } else {
      zip = nil
    }
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
    _ = try tower.encode(grid(of: image), into: out, deepstack, cancellation)
  }

  /// The same, handing over the rows that the reduction asks for, in the image's order.
  func encode(
    _ image: LoadedImage, into out: Rows, _ deepstack: Deepstack.Part, _ reduction: Reduction,
    _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Int {
    guard var zip else { preconditionFailure("the plan has no room to reduce features") }
    zip.rule = reduction.request.rule
    let (grid, records) = (grid(of: image), reduction.records)
    records.beginEncoding(image: reduction.image, tokenCount: grid.count)
    let rows = out.rows(0..<grid.count)
    var milliseconds = try tower.encode(
      grid, into: rows, deepstack, observing: zip, cancellation)
    let start = ProcessStatus.monotonicMilliseconds
    let count = zip.reduce(rows, deepstack, reduction.request, grid)
    milliseconds += ProcessStatus.monotonicMilliseconds - start
    for index in 0..<count { reduction.origins[index] = zip.order[index] }
    records.note(zip, tokenCount: grid.count)
    records.endEncoding(origins: reduction.origins[..<count], milliseconds: milliseconds)
    return count
  }

  private func grid(of image: LoadedImage) -> CellGrid {
    let grid = image.layout.overviewGrid.grid
    return CellGrid(lines: grid.lines, columns: grid.lineLength, window: window)
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
