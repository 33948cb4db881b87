import PIOBase

/// How an image becomes the encoder's input: decoded, turned upright, resized, cropped or padded,
/// normalised.
public struct ImagePreparation: Equatable, Sendable {
  /// Pixels a side of what the encoder sees.
  public var side: Int
  /// Pixels a side of one patch; what `side` leaves over is dropped at the right and the bottom.
  public var patchSize: Int
  /// `resizeTo` is the shortest edge (`crop`) or the square's side (`pad`, `stretch`); the centre of `side` pixels is
  /// taken then, with black around it where there is less.
  public var steps: ImagePreprocessing

  public init(_ steps: ImagePreprocessing, side: Int, patchSize: Int) {
    self.side = side
    self.patchSize = patchSize
    self.steps = steps
  }

  /// With the usual steps, resizing to `side`.
  public init(side: Int, patchSize: Int) {
    self.init(ImagePreprocessing(), side: side, patchSize: patchSize)
    steps.resizeTo = side
  }

  public var patchesPerSide: Int { patchSize > 0 ? side / patchSize : 0 }
  public var patchCount: Int { patchesPerSide * patchesPerSide }
  /// Columns of a patch: `(channel, y, x)`.
  public var patchDim: Int { 3 * patchSize * patchSize }

  /// The largest `side` and `resizeTo`: scratch memory and 32-bit offsets follow from it.
  static let maxSide = 8192

  func validate() throws(ImageError) {
    guard (1...Self.maxSide).contains(side) else {
      throw .badPreparation(what: "image size", found: "\(side)")
    }
    guard (1...side).contains(patchSize) else {
      throw .badPreparation(what: "patch size", found: "\(patchSize)")
    }
    guard (1...Self.maxSide).contains(steps.resizeTo) else {
      throw .badPreparation(what: "resize target", found: "\(steps.resizeTo)")
    }
    guard steps.std.0 != 0, steps.std.1 != 0, steps.std.2 != 0 else {
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
