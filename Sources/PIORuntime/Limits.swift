import CPIOKernels
import PIOFormat
import PIOVision

/// Which arithmetic runs.
public enum Compute: String, Sendable, CaseIterable {
  /// Each tensor in its own: int8/int4 quantized, float kinds in f32.
  case auto
  /// Every tensor in f32, quantized ones dequantized tile by tile: the oracle of the quantized path.
  case f32
  /// As auto, but a model with a float matrix is refused by the command line.
  case quantized
}

/// How keys and values are kept.
public enum KVKind: String, Sendable, CaseIterable {
  case f32, f16, int8

  var kernelKind: UInt32 {
    switch self {
    case .f32: UInt32(PIO_F32.rawValue)
    case .f16: UInt32(PIO_F16.rawValue)
    case .int8: UInt32(PIO_KV_INT8.rawValue)
    }
  }

  /// Bytes of one position of one head, keys and values and their scales.
  package func byteCount(headDim: Int) -> Int {
    switch self {
    case .f32: 8 * headDim
    case .f16: 4 * headDim
    case .int8: 2 * headDim + 8
    }
  }
}

/// What a session may ask for; the plan is made for exactly this much.
public struct Limits: Equatable, Sendable {
  /// Text rows of the whole session, generated ones included.
  public var contextRows = 1024
  /// Images of the whole session.
  public var imageCount = 1
  public var maxImagePixels = ImageLimits().maxPixels
  /// Heap of the image codecs; nil: what the other phases need anyway, and at least `minCodecBytes`.
  public var codecBytes: Int?
  public var threadCount = 1
  public var kv = KVKind.f16
  public var compute = Compute.auto
  public var pruning = Pruning()
  /// Most bytes of the process that may be resident; nil: as many as there are.
  public var memoryCap: Int?
  public var stream = StreamMode.auto
  /// Decoder weights that stay in memory are locked there.
  public var locksWeights = false
  /// Images may come when the decoder has run already: a chat, or one conversation after another.
  public var isConversation = true

  /// Row counts that a prefill may go through a layer in: the most that fits is taken. They change speed and scratch alone.
  package var chunkSizes = [128, 64, 32, 16]

  /// Rows of an image at a time, and a progressive image of 2.7 million pixels (4:2:0).
  static let minCodecBytes = 8 << 20
  static let maxCodecBytes = ImageLimits().maxCodecBytes

  // MARK: The range of each

  public static let contextRows = 2...(1 << 24)
  public static let imageCount = 0...1024
  public static let maxImagePixels = 1...(1 << 31)
  public static let codecBytes = (1 << 20)...(1 << 30)
  public static let threadCount = 1...256
  public static let memoryCap = 1...Int.max
  /// Of one answer: a number of the request, `Request.maxTokens`.
  public static let maxTokens = 1...(1 << 24)

  /// Throws where a number is out of its range. Within the ranges no size that the plan computes overflows.
  public func validate() throws(RuntimeError) {
    try check("contextRows", contextRows, Self.contextRows)
    try check("imageCount", imageCount, Self.imageCount)
    try check("maxImagePixels", maxImagePixels, Self.maxImagePixels)
    try check("codecBytes", codecBytes ?? Self.minCodecBytes, Self.codecBytes)
    try check("threadCount", threadCount, Self.threadCount)
    try check("memoryCap", memoryCap ?? .max, Self.memoryCap)
  }

  private func check(
    _ name: String, _ value: Int, _ range: ClosedRange<Int>
  ) throws(RuntimeError) {
    guard range.contains(value) else {
      throw .limitOutOfRange(name: name, value: value, allowed: range)
    }
  }

  /// Bytes of text that can be worth encoding: more than fill the context with the longest pieces, four times over for
  /// what normalisation takes away.
  func maxTextBytes(maxPieceBytes: Int) -> Int { contextRows * 4 * max(4, maxPieceBytes) }

  /// Bytes of a line of JSON around such a text.
  func maxLineBytes(maxPieceBytes: Int) -> Int {
    2 * maxTextBytes(maxPieceBytes: maxPieceBytes) + (16 << 10) * (1 + imageCount)
  }

  /// Other ways to prune that a turn may ask for: there is room for each of them.
  public var alternatives: [Pruning] = []

  public init() {}

  /// All ways to prune that the plan has room for.
  public var prunings: [Pruning] { [pruning] + alternatives }

  func image(codecBytes: Int) -> ImageLimits {
    var image = ImageLimits()
    image.maxPixels = maxImagePixels
    // As many pixels in a shape of up to 16:1; the resizer's tables grow with the longest edge.
    image.maxEdge = min(image.maxEdge, 4 * Int(Double(maxImagePixels).squareRoot().rounded(.up)))
    image.maxCodecBytes = codecBytes
    return image
  }
}

/// What happens to weights that are not in use.
public enum StreamMode: String, Sendable, CaseIterable {
  /// As many as fit under the cap stay, the others are read each time they are needed.
  case auto
  /// None stays.
  case on
  /// The file is mapped and left to the kernel.
  case off
}
