/// One turn: what is new in it. What earlier turns said is in the cache.
public struct Request {
  /// Token ids; the image token stands where an image goes, once for each.
  public var tokens: [Int32]
  /// Paths of the images, in the order of their places.
  public var images: [String]
  /// Most tokens of the answer.
  public var maxTokens: Int
  /// What `encodeImage` gave for the first of these images: they are not decoded and encoded again.
  package var encodedImages: [EncodedImage] = []
  /// Called with the logits that the first token is chosen from: a diagnostic.
  public var inspectLogits: ((UnsafeBufferPointer<Float>) -> Void)?

  public init(tokens: [Int32], images: [String] = [], maxTokens: Int) {
    self.tokens = tokens
    self.images = images
    self.maxTokens = maxTokens
  }
}

/// An image as the decoder gets it.
package struct EncodedImage: Sendable {
  /// `(rows.rowCount, dim)`.
  let values: [Float]
  let rows: ImageRows
  /// What it would be if the encoder dropped nothing.
  let whole: ImageRows
  /// Where the encoder has dropped tokens: which of the image's tokens are left.
  let origins: [Int32]
}

public enum FinishReason: String, Sendable {
  /// The model ended its answer.
  case stop
  /// The answer reached `maxTokens`, or the context is full.
  case length
}

/// What a turn gave and what it took.
public struct Generation: Sendable {
  public var tokens: [Int32] = []
  public var finishReason = FinishReason.stop
  public var imageDecodeMilliseconds = 0.0
  public var imageEncodeMilliseconds = 0.0
  public var prefillMilliseconds = 0.0
  /// From the start of the turn to the first token.
  public var firstTokenMilliseconds = 0.0
  /// From the start of the process to the first token.
  public var processToFirstTokenMilliseconds = 0.0
  public var decodeMilliseconds = 0.0
  /// Rows of the whole conversation in front of the answer.
  public var promptTokens = 0
  /// Visual tokens that entered the decoder in this turn; the ends of lines between tiles' patches are not counted.
  public var visualTokens = 0
  /// The images' rows, ends of lines among them.
  var visualRows = 0
  /// Of these, what a layer sees on average.
  public var visualTokensAverage = 0.0
  /// Rows that this turn computed before its first token.
  public var prefilledTokens = 0

  /// Of the tokens behind the first.
  public var decodeTokensPerSecond: Double {
    decodeMilliseconds > 0 ? Double(max(0, tokens.count - 1)) / decodeMilliseconds * 1e3 : 0
  }
}
