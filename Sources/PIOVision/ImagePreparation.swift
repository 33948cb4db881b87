/// How an image becomes the encoder's input: decoded, turned upright, resized, cropped or padded,
/// normalised.
public struct ImagePreparation: Equatable, Sendable {
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

  /// Pixels a side of what the encoder sees.
  public var side: Int
  /// Pixels a side of one patch; what `side` leaves over is dropped at the right and the bottom.
  public var patchSize: Int
  public var fit = Fit.crop
  public var filter = Filter.bicubic
  /// The shortest edge after resizing (`crop`), the square's side (`pad`, `stretch`); the centre of
  /// `side` pixels is taken then, with black around it where there is less.
  public var resizeTo: Int
  public var rescaleFactor: Float = 1 / 255
  public var mean: (Float, Float, Float) = (0, 0, 0)
  public var std: (Float, Float, Float) = (1, 1, 1)
  public var padColor: (UInt8, UInt8, UInt8) = (0, 0, 0)

  public init(side: Int, patchSize: Int) {
    self.side = side
    self.patchSize = patchSize
    resizeTo = side
  }

  public var patchesPerSide: Int { patchSize > 0 ? side / patchSize : 0 }
  public var patchCount: Int { patchesPerSide * patchesPerSide }
  /// Columns of a patch: `(channel, y, x)`.
  public var patchDim: Int { 3 * patchSize * patchSize }

  public static func == (a: Self, b: Self) -> Bool {
    a.side == b.side && a.patchSize == b.patchSize && a.fit == b.fit && a.filter == b.filter
      && a.resizeTo == b.resizeTo && a.rescaleFactor == b.rescaleFactor && a.mean == b.mean
      && a.std == b.std && a.padColor == b.padColor
  }

  /// The largest `side` and `resizeTo`: scratch memory and 32-bit offsets follow from it.
  static let maxSide = 8192

  func validate() throws(ImageError) {
    guard (1...Self.maxSide).contains(side) else {
      throw .badPreparation(what: "image size", found: "\(side)")
    }
    guard (1...side).contains(patchSize) else {
      throw .badPreparation(what: "patch size", found: "\(patchSize)")
    }
    guard (1...Self.maxSide).contains(resizeTo) else {
      throw .badPreparation(what: "resize target", found: "\(resizeTo)")
    }
    guard std.0 != 0, std.1 != 0, std.2 != 0 else {
      throw .badPreparation(what: "standard deviation", found: "0")
    }
  }
}

/// What an image may cost. An image beyond it is refused by its header alone.
public struct ImageLimits: Equatable, Sendable {
  /// 64 million: a 50-megapixel phone image passes, a small file that unfolds into gigabytes does not.
  public var maxPixels = 64_000_000
  /// The longest edge a JPEG can have.
  public var maxEdge = 65_500
  /// Heap of libjpeg or libpng. Rows of a baseline JPEG or a plain PNG need some megabytes at most;
  /// a progressive JPEG needs 3 bytes a pixel (4:2:0; 6 without subsampling), an interlaced PNG 3.
  public var maxCodecBytes = 128 << 20
  /// What a codec gives back goes on to the system (`malloc_trim`), and not to a heap that only another image would use.
  /// A matter of the process and not of the image: `HostPolicy.trimsHeap` decides.
  public var trimsHeap = false

  public init() {}
}

/// What the header of an image says.
public struct ImageInfo: Equatable, Sendable {
  public enum Format: UInt8, Sendable { case jpeg = 1, png = 2 }

  public var format: Format
  /// Upright, after the EXIF orientation.
  public var width: Int
  public var height: Int
}
