import PIOVision

/// An image of a prompt: a JPEG or a PNG.
public enum Image {
  case file(String)
  /// `bytes` must live until the call that takes the image returns; `name` stands for the path in errors.
  case bytes(UnsafeRawBufferPointer, name: String)
}

/// One turn: what is new in it. What earlier turns said is in the slot.
public struct Request {
  /// Token ids; the image token stands where an image goes, once for each.
  public var tokens: [Int32]
  /// In the order of their places.
  public var images: [Image]
  /// Most tokens of the answer.
  public var maxTokens: Int
  /// How visual tokens are dropped, one of the ways that the plan has room for; nil: as `Limits.pruning` says.
  public var pruning: Pruning?
  /// Ends the turn early.
  public var cancellation: Cancellation?
  /// What `Runtime.encode` gave for the first of these images: they are not decoded and encoded again.
  package var encodedImages: [EncodedImage] = []
  /// Called with the logits that the first token is chosen from: a diagnostic.
  public var inspectLogits: ((UnsafeBufferPointer<Float>) -> Void)?

  public init(tokens: [Int32], images: [Image] = [], maxTokens: Int) {
    self.tokens = tokens
    self.images = images
    self.maxTokens = maxTokens
  }
}

/// An image as the decoder gets it.
package struct EncodedImage: Sendable {
  /// `(rowCount, dim)`.
  let values: [Float]
  let rowCount: Int
  /// What it would be if the encoder dropped nothing.
  let layout: VisualLayout
  /// Where the encoder has dropped tokens: which of the image's tokens are left.
  let origins: [Int32]
  /// `(layers, tokens that are left, dim)`: what is added behind the decoder's first layers.
  package let deepstack: [Float]
}

public enum FinishReason: String, Sendable {
  /// The model ended its answer.
  case stop
  /// The answer reached `maxTokens`, or the context is full.
  case length
  /// The caller wanted no more of it.
  case cancelled
}

/// What a turn gave and what it took.
public struct Generation: Sendable {
  public var tokens: [Int32] = []
  public var finishReason = FinishReason.stop
  public var prefill = Prefill()
  /// From the start of the turn to the first token.
  public var firstTokenMilliseconds = 0.0
  /// From the start of the process to the first token.
  public var processToFirstTokenMilliseconds = 0.0
  public var decodeMilliseconds = 0.0

  /// Of the tokens behind the first.
  public var decodeTokensPerSecond: Double {
    decodeMilliseconds > 0 ? Double(max(0, tokens.count - 1)) / decodeMilliseconds * 1e3 : 0
  }
}

/// What it took to bring a turn into its slot.
public struct Prefill: Sendable {
  /// The turn's images that went through the encoder.
  public var images: [PreparedImage] = []
  public var imageDecodeMilliseconds = 0.0
  public var imageEncodeMilliseconds = 0.0
  /// Of the decoder.
  public var milliseconds = 0.0
  /// Rows of the whole conversation in front of the answer.
  public var promptTokens = 0
  /// Visual tokens that entered the decoder in this turn; the ends of lines between tiles' patches are not counted.
  public var visualTokens = 0
  /// Of these, what a layer sees on average.
  public var visualTokensAverage = 0.0
  /// Rows that this turn computed before its first token.
  public var rows = 0
}
