import PIOBase

/// Every number the runtime needs to know of a model: what a `.piom` file's metadata holds.
public struct ModelConfig: Equatable, Sendable {
  public var text: TextConfig
  /// Nil: a decoder alone, which takes no images.
  public var vision: VisionConfig?
  public var prompt: PromptTemplate
  public var specialTokens: SpecialTokens

  public init(
    text: TextConfig, vision: VisionConfig?, prompt: PromptTemplate, specialTokens: SpecialTokens
  ) {
    self.text = text
    self.vision = vision
    self.prompt = prompt
    self.specialTokens = specialTokens
  }
}

/// A Llama decoder: RMSNorm, rotary positions, grouped-query attention, SwiGLU.
public struct TextConfig: Equatable, Sendable {
  public var dim = 0
  public var hiddenDim = 0
  public var layerCount = 0
  public var headCount = 0
  public var kvHeadCount = 0
  public var headDim = 0
  /// Rows of the embedding table and of the head.
  public var vocabSize = 0
  /// `max_position_embeddings`: the longest sequence the model was made for.
  public var maxPositions = 0
  public var rmsNormEpsilon: Float = 1e-5
  /// For people. The frequencies themselves are the tensor `text.rope.inverse_frequencies`.
  public var ropeTheta: Float = 10_000
  public var ropeScaling: RopeScaling = .none
  /// YaRN's factor on cosines and sines; 1 for the other kinds.
  public var ropeAttentionFactor: Float = 1
  public var queryKeyValueBias = false
  public var attentionOutputBias = false
  public var mlpBias = false
  /// The head is the embedding table.
  public var tiedHead = false
  /// Positions that a row sees at most, its own the last of them (Mistral); nil: all before it.
  public var slidingWindow: Int?
  /// Rotary frequencies that turn with a row's time, line and column (M-RoPE); empty: all turn with its one position.
  public var ropeSections: [Int] = []
  /// The frequencies of the three take turns, one by one, instead of standing in blocks.
  public var ropeInterleaves = false
  /// Each head's queries and keys go through an RMSNorm in front of the rotation.
  public var queryKeyNorm = false

  public init() {}
}

/// The name of the rule that made the rotary frequencies.
public enum RopeScaling: UInt8, Sendable, CaseIterable {
  case none = 0
  case linear = 1
  case llama3 = 2
  case yarn = 3
}

public enum Activation: UInt8, Sendable, CaseIterable {
  /// `x · Φ(x)`, with the error function.
  case gelu = 0
  /// The tanh approximation of `gelu`.
  case geluTanh = 1
  /// `x · σ(1.702 x)`.
  case quickGelu = 2
}

/// Token ids with a meaning of their own; −1: the model has none.
public struct SpecialTokens: Equatable, Sendable {
  public var begin: Int32 = -1
  /// Any of these ends the answer.
  public var end: [Int32] = []
  /// What `<image>` is in the token stream; it is replaced by the image's rows.
  public var image: Int32 = -1

  public init() {}
}
