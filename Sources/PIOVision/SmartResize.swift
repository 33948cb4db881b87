import PIOBase

/// What an image is resized to where its shape stays: multiples of a token's side, whose product lies between two counts
/// of pixels.
///
/// The same numbers as `smart_resize` of transformers comes to, in f64 as there; whole numbers are rounded half to even.
/// Source: Wang et al. 2024, arXiv:2409.12191.
public struct SmartResize: Equatable, Sendable {
  public let resized: PixelSize

  /// `image` upright, neither edge 0; nil where one edge is more than 200 times as long as the other.
  public init?(_ image: PixelSize, cellSide: Int, leastPixels: Int, mostPixels: Int) {
    let (height, width) = (Double(image.height), Double(image.width))
    guard max(height, width) / min(height, width) <= 200 else { return nil }
    let side = Double(cellSide)
    func rounded(_ edge: Double) -> Int {
      Int((edge / side).rounded(.toNearestOrEven)) * cellSide
    }
    let (h, w) = (rounded(height), rounded(width))
    if h * w > mostPixels {
      let beta = (height * width / Double(mostPixels)).squareRoot()
      func shrunk(_ edge: Double) -> Int {
        max(cellSide, Int((edge / beta / side).rounded(.down)) * cellSide)
      }
      resized = PixelSize(height: shrunk(height), width: shrunk(width))
    } else if h * w < leastPixels {
      let beta = (Double(leastPixels) / (height * width)).squareRoot()
      func grown(_ edge: Double) -> Int { Int((edge * beta / side).rounded(.up)) * cellSide }
      resized = PixelSize(height: grown(height), width: grown(width))
    } else {
      resized = PixelSize(height: h, width: w)
    }
  }
}

/// Decodes an image that is open, once, and resizes it to `size` whatever its shape.
///
/// `pixels` receives `(y, x, 3)` bytes. They equal Pillow's.
/// `scratch`: at least `rasterScratchByteCount` bytes of the image's limits. Traps where either is too small. Allocates as
/// `prepareImage` does. After an error `pixels` may be partly written.
public func prepareRaster(
  _ image: OpenImage, _ filter: ImagePreprocessing.Filter, size: PixelSize,
  scratch: UnsafeMutableRawBufferPointer, into pixels: UnsafeMutableBufferPointer<UInt8>
) throws(ImageError) {
  precondition(pixels.count >= 3 * size.height * size.width, "prepareRaster: pixels")
  var preparation = ImagePreparation(side: 1, patchSize: 1)
  preparation.steps.filter = filter
  let info = image.info
  var sink = RowSink(
    PatchResizer(
      orientation: image.orientation,
      (
        AxisGeometry(source: info.width, resized: size.width, destination: 0),
        AxisGeometry(source: info.height, resized: size.height, destination: 0)
      ), preparation, scratch: scratch, into: .raster(pixels.baseAddress!, width: size.width)))
  try image.decode(into: &sink)
  sink.finish()
}

/// Scratch bytes that suffice for every image within the limits and every size of up to `longest` pixels an edge.
public func rasterScratchByteCount(
  longest: Int, filter: ImagePreprocessing.Filter, limits: ImageLimits = ImageLimits()
) -> Int {
  PatchResizer.byteCount(longest: longest, maxEdge: max(maxEdge(limits), longest), filter: filter)
}

extension ImagePreprocessing {
  /// `(value · rescaleFactor − mean) / std`, `(channel, 256)`.
  public func fill(levels: UnsafeMutablePointer<Float>) {
    ImagePreparation(self, side: 1, patchSize: 1).fill(levels: levels)
  }
}

/// One patch of a raster, normalised: `out` receives `(channel, y, x)`.
public func patch(
  line: Int, column: Int, side: Int, of pixels: UnsafePointer<UInt8>, width: Int,
  levels: UnsafePointer<Float>, into out: UnsafeMutablePointer<Float>
) {
  var at = 0
  for channel in 0..<3 {
    let level = levels + 256 * channel
    for y in 0..<side {
      let row = pixels + 3 * ((line * side + y) * width + column * side) + channel
      for x in 0..<side { out[at + x] = level[Int(row[3 * x])] }
      at += side
    }
  }
}
