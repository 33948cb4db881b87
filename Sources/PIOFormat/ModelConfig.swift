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

/// What an image may be resized to, to be cut into tiles of the encoder's size.
public struct ImageResolution: Equatable, Sendable {
  public var height: Int
  public var width: Int

  public init(height: Int, width: Int) {
    self.height = height
    self.width = width
  }
}

/// A CLIP vision transformer, as far as its features are used, and the two-layer projector.
public struct VisionConfig: Equatable, Sendable {
  /// Height and width of the input, a multiple of `patchSize`.
  public var imageSize = 0
  public var patchSize = 0
  public var dim = 0
  public var hiddenDim = 0
  /// Layers that run: those up to the layer whose output is the feature.
  public var layerCount = 0
  public var headCount = 0
  public var layerNormEpsilon: Float = 1e-5
  public var activation = Activation.quickGelu
  /// Select strategy `default`: the class token is not among the features; false: `full`.
  public var dropsClassToken = true
  public var projectorHiddenDim = 0
  public var projectorActivation = Activation.gelu
  public var projectorBias = true
  public var preprocessing = ImagePreprocessing()
  /// LLaVA-NeXT: the resolutions, in order, one of which an image is cut into tiles at, beside the tile that shows
  /// it whole. Multiples of `imageSize`. Empty: an image is one tile.
  public var resolutions: [ImageResolution] = []

  public init() {}

  public var isTiled: Bool { !resolutions.isEmpty }

  /// Tiles that a resolution is cut into, beside the one that shows the image whole.
  public func tileCount(_ resolution: ImageResolution) -> Int {
    (resolution.height / imageSize) * (resolution.width / imageSize)
  }

  /// Leaves the resolutions of at most `count` tiles; changes nothing and returns false where there is none.
  public mutating func keepResolutions(ofTiles count: Int) -> Bool {
    let kept = resolutions.filter { tileCount($0) <= count }
    if !kept.isEmpty { resolutions = kept }
    return !kept.isEmpty
  }

  public var headDim: Int { headCount > 0 ? dim / headCount : 0 }
  public var patchesPerSide: Int { patchSize > 0 ? imageSize / patchSize : 0 }
  public var patchCount: Int { patchesPerSide * patchesPerSide }
  /// Rows of the encoder: the patches and the class token.
  public var positionCount: Int { patchCount + 1 }
  /// Rows that one tile gives to the decoder.
  public var visualTokenCount: Int { dropsClassToken ? patchCount : positionCount }
  /// Rows that an image which fills a resolution gives beside the tile that shows it whole: the patches, and one
  /// behind each line of them.
  public func rowCount(_ resolution: ImageResolution) -> Int {
    (resolution.height / patchSize) * (resolution.width / patchSize + 1)
  }

  /// Most rows that an image gives to the decoder.
  public var maxVisualRowCount: Int {
    visualTokenCount + (resolutions.map(rowCount).max() ?? 0)
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

/// A chat as data: what stands around the turns. `{}` never occurs; the parts are joined in order.
///
/// A conversation is: `system` part, then for each turn `userPrefix` + (`imagePart` per image)
/// + `textPrefix` + text + `userSuffix`, `assistantPrefix`, the answer, `assistantSuffix`.
/// Special tokens inside (`<s>`, `</s>`, `<|eot_id|>`, `<image>`) are recognised as such.
public struct PromptTemplate: Equatable, Sendable {
  /// The template's name: `vicuna_v1`, `llama2`, `llama3`, `mistral`, `chatml`, `plain`, `llava`…
  public var name = "plain"
  public var systemPrefix = ""
  public var systemSuffix = ""
  /// Used when the person gives none; empty: then there is no system part.
  public var defaultSystem = ""
  public var userPrefix = ""
  public var userSuffix = ""
  public var assistantPrefix = ""
  public var assistantSuffix = ""
  /// One image, with what follows it: `<image>\n`.
  public var imagePart = "<image>\n"
  /// Stands in front of the text, behind the images.
  public var textPrefix = ""
  /// The tokenizer's own beginning-of-text token is added in front of a conversation.
  public var addsBeginToken = true

  public init() {}
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
