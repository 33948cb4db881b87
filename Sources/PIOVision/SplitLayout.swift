import PIOBase

/// How an image is cut into square tiles when its longest edge is given a length first.
///
/// It is resized to `longestEdge` whatever its size, then to the next multiples of a tile's side, and cut into `rows` ×
/// `columns` tiles; one more shows it whole. Where the multiples are one tile, that is all there is. The same numbers as
/// `Idefics3ImageProcessor` and `SmolVLMImageProcessor` of transformers come to, in f64 as there.
/// Source: Laurençon et al. 2024, arXiv:2408.12637.
public struct SplitLayout: Equatable, Sendable {
  /// Pixels a side of a tile.
  public let side: Int
  public let image: PixelSize
  /// With its longest edge as asked.
  public let resized: PixelSize
  /// What is cut: multiples of `side`.
  public let canvas: PixelSize

  /// `image` upright, neither edge 0. `splits`: false makes one tile of any image.
  public init(_ image: PixelSize, longestEdge: Int, splits: Bool, side: Int) {
    self.side = side
    self.image = image
    resized = SplitLayout.resized(image, longestEdge: longestEdge)
    canvas =
      splits
      ? SplitLayout.canvas(resized, side: side) : PixelSize(height: side, width: side)
  }

  /// Tiles that the image is cut into, beside the one that shows it whole; 0: that one is all.
  public var rows: Int { isCut ? canvas.height / side : 0 }
  public var columns: Int { isCut ? canvas.width / side : 0 }
  public var tileCount: Int { rows * columns + 1 }
  private var isCut: Bool { canvas.height > side || canvas.width > side }

  /// What the first resizing never exceeds.
  static let maxEdge = 4096

  /// The longest edge becomes `longestEdge`, the other one an even number of pixels; then neither exceeds `maxEdge`.
  private static func resized(_ image: PixelSize, longestEdge: Int) -> PixelSize {
    let first = scaled(image, to: longestEdge)
    let even = PixelSize(
      height: image.width >= image.height ? roundedUpToEven(first.height) : first.height,
      width: image.width >= image.height ? first.width : roundedUpToEven(first.width))
    let bounded = max(even.height, even.width) > maxEdge ? scaled(even, to: maxEdge) : even
    return PixelSize(height: max(bounded.height, 1), width: max(bounded.width, 1))
  }

  private static func scaled(_ size: PixelSize, to edge: Int) -> PixelSize {
    let aspect = Double(size.width) / Double(size.height)
    return size.width >= size.height
      ? PixelSize(height: Int(Double(edge) / aspect), width: edge)
      : PixelSize(height: edge, width: Int(Double(edge) * aspect))
  }

  private static func roundedUpToEven(_ count: Int) -> Int { count + count % 2 }

  private static func canvas(_ size: PixelSize, side: Int) -> PixelSize {
    let aspect = Double(size.width) / Double(size.height)
    // A line of one pixel comes to less than one by f64's rounding, for which transformers fails.
    func multiple(_ count: Int) -> Int { (max(count, 1) + side - 1) / side * side }
    if size.width >= size.height {
      let width = multiple(size.width)
      return PixelSize(height: multiple(Int(Double(width) / aspect)), width: width)
    }
    let height = multiple(size.height)
    return PixelSize(height: height, width: multiple(Int(Double(height) * aspect)))
  }
}
