import PIOBase

/// Decodes an image that is open, once, and makes tiles of it as `layout`, of its size, says.
///
/// `pixels` receives `(tile, y, x, 3)` bytes for `tilePatches`: the tiles it is cut into in reading order, then the one
/// that shows it whole. It is resized up to three times, each time to whole bytes: to its longest edge, to multiples of
/// a tile, and from these to the one tile. The pixels equal those of transformers' `Idefics3ImageProcessorPil` and
/// `SmolVLMImageProcessorPil`. `preparation`: side, filter and normalisation of a tile.
/// `scratch`: at least `splitScratchByteCount` bytes; `pixels`: as many as the layout's tiles have. Traps where they are smaller.
/// Allocates as `prepareImage` does. After an error `pixels` may be partly written.
public func prepareSplit(
  _ image: OpenImage, _ preparation: ImagePreparation, _ layout: SplitLayout,
  scratch: UnsafeMutableRawBufferPointer, into pixels: UnsafeMutableBufferPointer<UInt8>
) throws(ImageError) {
  try preparation.validate()
  precondition(layout.side == preparation.side, "prepareSplit: side")
  precondition(
    pixels.count >= layout.tileCount * 3 * preparation.side * preparation.side,
    "prepareSplit: pixels")
  let resizing = SplitResizing(preparation, layout, scratch)
  try resizing.decode(image)
  resizing.makeTiles(pixels.baseAddress!)
}

/// Scratch bytes that suffice for every image within the limits, of layouts of up to `longestEdge`: the image with its longest edge as asked, a row of
/// tiles, and what resizing takes.
public func splitScratchByteCount(
  _ preparation: ImagePreparation, longestEdge: Int, limits: ImageLimits = ImageLimits()
) -> Int {
  SplitResizing.rasterByteCount(longestEdge)
    + SplitResizing.rowByteCount(longestEdge, side: preparation.side)
    + SplitResizing.resizerByteCount(
      preparation, longestEdge: longestEdge, maxEdge: maxEdge(limits))
}

/// The three resizings, one after the other in the same scratch.
private struct SplitResizing {
  private let preparation: ImagePreparation
  private let layout: SplitLayout
  /// The image with its longest edge as asked, `(y, x, 3)`.
  private let raster: UnsafeMutablePointer<UInt8>
  /// A row of pixels across all tiles.
  private let row: UnsafeMutablePointer<UInt8>
  private let resizer: UnsafeMutableRawBufferPointer

  /// Pixels of the raster's edges at most.
  private static func longest(_ longestEdge: Int) -> Int {
    min(longestEdge + longestEdge % 2, SplitLayout.maxEdge)
  }

  private static func longestCanvas(_ longestEdge: Int, side: Int) -> Int {
    (longest(longestEdge) + side - 1) / side * side
  }

  static func rasterByteCount(_ longestEdge: Int) -> Int {
    Scratch.rounded(3 * longest(longestEdge) * longest(longestEdge)) + Scratch.alignment
  }

  static func rowByteCount(_ longestEdge: Int, side: Int) -> Int {
    Scratch.rounded(3 * longestCanvas(longestEdge, side: side))
  }

  static func resizerByteCount(
    _ preparation: ImagePreparation, longestEdge: Int, maxEdge: Int
  ) -> Int {
    let canvas = longestCanvas(longestEdge, side: preparation.side)
    return PatchResizer.byteCount(
      longest: canvas, maxEdge: max(maxEdge, canvas), filter: preparation.steps.filter)
  }

  init(
    _ preparation: ImagePreparation, _ layout: SplitLayout,
    _ bytes: UnsafeMutableRawBufferPointer
  ) {
    var scratch = Scratch(bytes)
    self.preparation = preparation
    self.layout = layout
    raster = scratch.take(UInt8.self, 3 * layout.resized.height * layout.resized.width)
    row = scratch.take(UInt8.self, 3 * layout.canvas.width)
    resizer = scratch.rest
  }

  /// From the file to the raster.
  func decode(_ image: OpenImage) throws(ImageError) {
    var sink = RowSink(
      PatchResizer(
        orientation: image.orientation, edges(layout.image, layout.resized), preparation,
        scratch: resizer, into: .raster(raster, width: layout.resized.width)))
    try image.decode(into: &sink)
    sink.finish()
  }

  /// From the raster to the tiles, and from these to the one that shows the image whole.
  func makeTiles(_ pixels: UnsafeMutablePointer<UInt8>) {
    let side = preparation.side
    let columns = layout.canvas.width / side
    var cutting = PatchResizer(
      orientation: 1, edges(layout.resized, layout.canvas), preparation, scratch: resizer,
      into: .tiles(pixels, columns: columns))
    let stride = 3 * layout.resized.width
    for y in 0..<layout.resized.height { cutting.add(raster + y * stride, index: y) }
    cutting.finish()
    guard layout.tileCount > 1 else { return }
    let last = pixels + (layout.tileCount - 1) * 3 * side * side
    var overview = PatchResizer(
      orientation: 1, edges(layout.canvas, PixelSize(height: side, width: side)), preparation,
      scratch: resizer, into: .tiles(last, columns: 1))
    for y in 0..<layout.canvas.height {
      for column in 0..<columns {
        let line = pixels + 3 * side * ((y / side * columns + column) * side + y % side)
        (row + 3 * side * column).update(from: line, count: 3 * side)
      }
      overview.add(row, index: y)
    }
    overview.finish()
  }

  private func edges(
    _ from: PixelSize, _ to: PixelSize
  ) -> (x: AxisGeometry, y: AxisGeometry) {
    (
      AxisGeometry(source: from.width, resized: to.width, destination: 0),
      AxisGeometry(source: from.height, resized: to.height, destination: 0)
    )
  }
}
