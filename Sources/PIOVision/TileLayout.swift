import PIOBase

/// How an image is cut into tiles of the encoder's size, and which of their patches show it.
///
/// The image is resized into the best of some resolutions, keeping its shape, set in the middle of black, and cut
/// into `rows` × `columns` tiles. The same numbers as `LlavaNextImageProcessor` of transformers and `unpad_image` of
/// its model come to, in f64 as there.
/// Source: Liu et al. 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge".
public struct TileLayout: Equatable, Sendable {
  /// Pixels a side of a tile.
  public let side: Int
  /// What the image is resized into; multiples of `side`.
  public let canvas: PixelSize
  public let image: PixelSize
  /// The image's own pixels on the canvas.
  public let resized: PixelSize

  /// `image` upright, neither edge 0; `resolutions` not empty, multiples of `side`.
  public init(_ image: PixelSize, resolutions: [PixelSize], side: Int) {
    self.side = side
    self.image = image
    canvas = TileLayout.best(image, of: resolutions)
    let (width, height) = (Double(image.width), Double(image.height))
    let scaleWidth = Double(canvas.width) / width
    let scaleHeight = Double(canvas.height) / height
    resized =
      scaleWidth < scaleHeight
      ? PixelSize(
        height: min(Int((height * scaleWidth).rounded(.up)), canvas.height), width: canvas.width)
      : PixelSize(
        height: canvas.height, width: min(Int((width * scaleHeight).rounded(.up)), canvas.width))
  }

  public var rows: Int { canvas.height / side }
  public var columns: Int { canvas.width / side }
  /// The grid's tiles and the one with the whole image.
  public var tileCount: Int { 1 + rows * columns }
  /// Black pixels above the image and to its left.
  var top: Int { (canvas.height - resized.height) / 2 }
  var left: Int { (canvas.width - resized.width) / 2 }

  /// The resolution that keeps most of the image's pixels; of equals the one that wastes least, of equals the first.
  static func best(_ image: PixelSize, of resolutions: [PixelSize]) -> PixelSize {
    var found = resolutions[0]
    var (mostKept, leastWasted) = (0, Int.max)
    for one in resolutions {
      let scale = min(
        Double(one.width) / Double(image.width), Double(one.height) / Double(image.height))
      let width = Int(Double(image.width) * scale)
      let height = Int(Double(image.height) * scale)
      let kept = min(width * height, image.width * image.height)
      let wasted = one.width * one.height - kept
      if kept > mostKept || (kept == mostKept && wasted < leastWasted) {
        (found, mostKept, leastWasted) = (one, kept, wasted)
      }
    }
    return found
  }

  /// The patches of the grid that show the image and not what stands around it.
  public func patches(perSide: Int) -> PatchLines {
    PatchLines(image, rows: rows * perSide, columns: columns * perSide)
  }
}

/// The lines of patches across all tiles of a grid, without those of the padding.
public struct PatchLines: Equatable, Sendable {
  public let rows: Range<Int>
  public let columns: Range<Int>

  /// Of a grid of so many rows and columns. An edge's patches that show an image much longer than wide may come to
  /// none.
  public init(_ image: PixelSize, rows: Int, columns: Int) {
    let (width, height) = (Double(image.width), Double(image.height))
    if width / height > Double(columns) / Double(rows) {
      let padding = (rows - Self.count(height * (Double(columns) / width))) / 2
      self.rows = padding..<(rows - padding)
      self.columns = 0..<columns
    } else {
      let padding = (columns - Self.count(width * (Double(rows) / height))) / 2
      self.rows = 0..<rows
      self.columns = padding..<(columns - padding)
    }
  }

  public var patchCount: Int { rows.count * columns.count }

  /// Rounded to 7 decimals, then cut to a whole number.
  private static func count(_ exact: Double) -> Int {
    Int((exact * 1e7).rounded(.toNearestOrEven) / 1e7)
  }
}
