import PIOBase

/// Decodes an image that is open, once for all its tiles: their pixels, RGB bytes, `(tile, y, x, 3)`.
///
/// Tile 0 is the whole image, stretched to the square; then those of the grid in reading order. The pixels equal
/// those of transformers' `LlavaNextImageProcessorPil`.
/// `scratch`: at least `tileScratchByteCount` bytes of the image's limits; `pixels`: at least `tilePixelByteCount`. Traps where they are
/// smaller. Allocates as `prepareImage` does. After an error `pixels` may be partly written.
public func prepareTiles(
  _ image: OpenImage, _ preparation: ImagePreparation, resolutions: [PixelSize],
  scratch: UnsafeMutableRawBufferPointer, into pixels: UnsafeMutableBufferPointer<UInt8>
) throws(ImageError) -> TileLayout {
  try preparation.validate()
  try validate(resolutions, side: preparation.side)
  let info = image.info
  let layout = TileLayout(
    PixelSize(height: info.height, width: info.width), resolutions: resolutions,
    side: preparation.side)
  let tileBytes = 3 * preparation.side * preparation.side
  precondition(pixels.count >= layout.tileCount * tileBytes, "prepareTiles: pixels")
  var whole = preparation
  whole.steps.fit = .stretch
  whole.steps.resizeTo = whole.side
  let wholeBytes = PatchResizer.byteCount(whole, maxEdge: maxEdge(image.limits))
  var sink = RowSink(
    PatchResizer(
      orientation: image.orientation, PatchResizer.edges(info, whole), whole,
      scratch: UnsafeMutableRawBufferPointer(rebasing: scratch[..<wholeBytes]),
      into: .tiles(pixels.baseAddress!, columns: 1)),
    grid: PatchResizer(
      orientation: image.orientation, layout.edges, whole,
      scratch: UnsafeMutableRawBufferPointer(rebasing: scratch[wholeBytes...]),
      into: .tiles(pixels.baseAddress! + tileBytes, columns: layout.columns)))
  (pixels.baseAddress! + tileBytes).update(
    repeating: 0, count: (layout.tileCount - 1) * tileBytes)
  try image.decode(into: &sink)
  sink.finish()
  return layout
}

/// One tile of `prepareTiles`, normalised: `patches` receives `(patchCount, 3·patchSize²)` as of `prepareImage`.
///
/// `levels`: scratch for 768 values.
public func tilePatches(
  _ tile: Int, of pixels: UnsafePointer<UInt8>, _ preparation: ImagePreparation,
  levels: UnsafeMutablePointer<Float>, into patches: UnsafeMutableBufferPointer<Float>
) {
  precondition(
    patches.count >= preparation.patchCount * preparation.patchDim, "tilePatches: patches")
  preparation.fill(levels: levels)
  let (side, size, perSide) = (
    preparation.side, preparation.patchSize, preparation.patchesPerSide
  )
  let first = pixels + tile * 3 * side * side
  var at = 0
  for row in 0..<perSide {
    for column in 0..<perSide {
      for channel in 0..<3 {
        let level = levels + 256 * channel
        for y in 0..<size {
          let line = first + 3 * ((row * size + y) * side + column * size) + channel
          for x in 0..<size { patches[at + x] = level[Int(line[3 * x])] }
          at += size
        }
      }
    }
  }
}

/// Bytes of the pixels of any image's tiles.
public func tilePixelByteCount(_ preparation: ImagePreparation, resolutions: [PixelSize]) -> Int {
  let largest = resolutions.reduce(0) { max($0, $1.height * $1.width) }
  return 3 * (preparation.side * preparation.side + largest)
}

/// Scratch bytes that suffice for every image within the limits, as of `imageScratchByteCount`.
public func tileScratchByteCount(
  _ preparation: ImagePreparation, resolutions: [PixelSize], limits: ImageLimits = ImageLimits()
) -> Int {
  let edge = maxEdge(limits)
  let longest = resolutions.reduce(1) { max($0, $1.height, $1.width) }
  return PatchResizer.byteCount(preparation, maxEdge: edge)
    + PatchResizer.gridByteCount(longest: longest, preparation, maxEdge: edge)
}

func maxEdge(_ limits: ImageLimits) -> Int {
  max(1, min(limits.maxEdge, limits.maxPixels, Int(Int32.max) / 64))
}

private func validate(_ resolutions: [PixelSize], side: Int) throws(ImageError) {
  guard !resolutions.isEmpty else {
    throw .badPreparation(what: "list of resolutions", found: "none")
  }
  for one in resolutions {
    for edge in [one.height, one.width] {
      guard edge > 0, edge <= ImagePreparation.maxSide, edge % side == 0 else {
        throw .badPreparation(what: "resolution", found: "\(one.height) x \(one.width)")
      }
    }
  }
}

extension TileLayout {
  /// Where the edges of the upright image go on the canvas.
  var edges: (x: AxisGeometry, y: AxisGeometry) {
    (
      AxisGeometry(
        source: image.width, resized: resized.width, destination: left),
      AxisGeometry(
        source: image.height, resized: resized.height, destination: top)
    )
  }
}
