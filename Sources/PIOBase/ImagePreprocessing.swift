/// How an image becomes the encoder's input.
public struct ImagePreprocessing: Equatable, Sendable {
  public enum Fit: UInt8, Sendable, CaseIterable {
    /// The shortest edge is resized to `resizeTo`, then the centre is cut out.
    case crop = 0
    /// Padded to a square with `padColor`, then resized.
    case pad = 1
    /// Resized to the square whatever its shape.
    case stretch = 2
  }
  public enum Filter: UInt8, Sendable, CaseIterable {
    case lanczos = 1
    case bilinear = 2
    case bicubic = 3

    /// Half the width of the filter's window, in source pixels where an image is enlarged.
    public var support: Int {
      switch self {
      case .bilinear: 1
      case .bicubic: 2
      case .lanczos: 3
      }
    }
  }
  public var fit = Fit.crop
  public var filter = Filter.bicubic
  /// The shortest edge after resizing, before the crop; the square's side for the other fits.
  public var resizeTo = 0
  public var rescaleFactor: Float = 1 / 255
  public var mean: (Float, Float, Float) = (0, 0, 0)
  public var std: (Float, Float, Float) = (1, 1, 1)
  /// What `--fit pad` fills with, 0…255 each.
  public var padColor: (UInt8, UInt8, UInt8) = (0, 0, 0)

  public init() {}

  /// The same image made square in another way: at the encoder's size, padded with the mean colour.
  public func with(fit: Fit, side: Int) -> ImagePreprocessing {
    guard fit != self.fit else { return self }
    func byte(_ mean: Float) -> UInt8 { UInt8(min(255, max(0, mean * 255))) }
    var changed = self
    changed.fit = fit
    changed.resizeTo = side
    changed.padColor = (byte(mean.0), byte(mean.1), byte(mean.2))
    return changed
  }

  public static func == (a: ImagePreprocessing, b: ImagePreprocessing) -> Bool {
    a.fit == b.fit && a.filter == b.filter && a.resizeTo == b.resizeTo
      && a.rescaleFactor == b.rescaleFactor && a.mean == b.mean && a.std == b.std
      && a.padColor == b.padColor
  }
}
