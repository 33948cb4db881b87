/// What an image may be resized to, to be cut into tiles of the encoder's size.
public struct ImageResolution: Equatable, Sendable {
  public var height: Int
  public var width: Int

  public init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

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
    case bilinear = 2
    case bicubic = 3
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

  public static func == (a: ImagePreprocessing, b: ImagePreprocessing) -> Bool {
    a.fit == b.fit && a.filter == b.filter && a.resizeTo == b.resizeTo
      && a.rescaleFactor == b.rescaleFactor && a.mean == b.mean && a.std == b.std
      && a.padColor == b.padColor
  }
}

extension ImagePreprocessing {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.choice(.imageFit, &fit)
    try coder.choice(.imageFilter, &filter)
    try coder.integer(.imageResizeTo, &resizeTo)
    try coder.float(.imageRescaleFactor, &rescaleFactor)
    try coder.floats(.imageMean, &mean)
    try coder.floats(.imageStd, &std)
    var color = Int(padColor.0) << 16 | Int(padColor.1) << 8 | Int(padColor.2)
    try coder.integer(.imagePadColor, &color)
    try check("imagePadColor", color, 0...0xFF_FFFF)
    padColor = (
      UInt8(truncatingIfNeeded: color >> 16), UInt8(truncatingIfNeeded: color >> 8),
      UInt8(truncatingIfNeeded: color)
    )
  }

  func validate(imageSize: Int) throws(ModelFileError) {
    // A crop is cut out of the resized image; the other fits resize to the input itself.
    try check(
      "image.resize_to", resizeTo, fit == .crop ? imageSize...8192 : imageSize...imageSize)
    try check("image.rescale_factor", rescaleFactor, 1e-9...1e3)
    for mean in [mean.0, mean.1, mean.2] { try check("image.mean", mean, -1e6...1e6) }
    for std in [std.0, std.1, std.2] { try check("image.std", std, 1e-6...1e6) }
  }
}
