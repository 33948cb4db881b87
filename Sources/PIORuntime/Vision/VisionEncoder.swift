import PIOBase
import PIOFormat
import PIOVision

/// An image's way to rows of the decoder: one case a family, each in a file of its own.
///
/// An image is loaded (decoded and prepared), then encoded; one at a time, in the plan's buffers.
enum VisionEncoder {
  case llava(LLaVAEncoder)
  case llavaNext(LLaVANextEncoder)
  case smolVLM(SmolVLMEncoder)
  case qwen2VL(QwenEncoder<QwenGELULayer>)
  case qwen25VL(QwenEncoder<Qwen25VLLayer>)
  case qwen3VL(QwenEncoder<QwenGELULayer>)

  init?(_ plan: Plan, _ config: ModelConfig, _ parts: VisionParts, arena: borrowing Arena) {
    switch (config.vision, plan.arena.vision) {
    case (.llava(let config), .llava(let regions)):
      self = .llava(LLaVAEncoder(config, regions, parts, arena: arena))
    case (.llavaNext(let config), .llavaNext(let regions)):
      self = .llavaNext(LLaVANextEncoder(config, regions, parts, arena: arena))
    case (.smolVLM(let config), .smolVLM(let regions)):
      self = .smolVLM(SmolVLMEncoder(config, regions, parts, arena: arena))
    case (.qwen2VL(let config), .qwen(let regions)):
      self = .qwen2VL(QwenEncoder(config, regions, parts, arena: arena))
    case (.qwen25VL(let config), .qwen(let regions)):
      self = .qwen25VL(QwenEncoder(config, regions, parts, arena: arena))
    case (.qwen3VL(let config), .qwen(let regions)):
      self = .qwen3VL(QwenEncoder(config, regions, parts, arena: arena))
    default: return nil
    }
  }

  /// Decodes an image and prepares it for the tower, in the encoder's own buffers.
  func load(_ image: OpenImage) throws(ImageError) {
    switch self {
    case .llava(let encoder): try encoder.load(image)
    case .llavaNext(let encoder): try encoder.load(image)
    case .smolVLM(let encoder): try encoder.load(image)
    case .qwen2VL(let encoder): try encoder.load(image)
    case .qwen25VL(let encoder): try encoder.load(image)
    case .qwen3VL(let encoder): try encoder.load(image)
    }
  }

  /// Encodes the image that was loaded last into `out`, which has exactly the rows of its layout; those of text are left alone.
  /// `deepstack` takes what is added to its tokens later.
  ///
  /// Allocates nothing. Throws where weights cannot be read, or when the work is cancelled.
  func encode(
    _ image: LoadedImage, into out: Rows, _ deepstack: Deepstack.Part,
    _ cancellation: Cancellation?
  ) throws(RuntimeError) {
    switch self {
    case .llava(let encoder): try encoder.encode(image, into: out, cancellation)
    case .llavaNext(let encoder): try encoder.encode(image, into: out, cancellation)
    case .smolVLM(let encoder): try encoder.encode(image, into: out, cancellation)
    case .qwen2VL(let encoder): try encoder.encode(image, into: out, deepstack, cancellation)
    case .qwen25VL(let encoder): try encoder.encode(image, into: out, deepstack, cancellation)
    case .qwen3VL(let encoder): try encoder.encode(image, into: out, deepstack, cancellation)
    }
  }

  /// The same, dropping tokens on the way. `out` has room for every row that an image can come to. Returns how many
  /// rows there are; `reduction` has their origins.
  func encode(
    _ image: LoadedImage, into out: Rows, _ deepstack: Deepstack.Part, _ reduction: Reduction,
    _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Int {
    switch self {
    case .llava(let encoder): try encoder.encode(image, into: out, reduction, cancellation)
    case .llavaNext(let encoder): try encoder.encode(image, into: out, reduction, cancellation)
    case .smolVLM(let encoder): try encoder.encode(image, into: out, reduction, cancellation)
    case .qwen2VL(let encoder):
      try encoder.encode(image, into: out, deepstack, reduction, cancellation)
    case .qwen25VL(let encoder):
      try encoder.encode(image, into: out, deepstack, reduction, cancellation)
    case .qwen3VL(let encoder):
      try encoder.encode(image, into: out, deepstack, reduction, cancellation)
    }
  }

  /// The image as the tower sees it whole: how it is prepared for that.
  var overviewPreparation: ImagePreparation {
    switch self {
    case .llava(let encoder): encoder.preparation
    case .llavaNext(let encoder): encoder.preparation
    case .smolVLM(let encoder): encoder.preparation
    case .qwen2VL(let encoder): encoder.preparation
    case .qwen25VL(let encoder): encoder.preparation
    case .qwen3VL(let encoder): encoder.preparation
    }
  }
}

/// What an image is known to be before it is encoded: its size, and its rows that follow from it.
struct LoadedImage {
  let size: PixelSize
  let layout: VisualLayout
}

/// What the encoder shall hand over of an image, and where it says what that is.
struct Reduction {
  let request: ZipRequest
  /// The image's place in the prompt.
  let image: Int
  /// Receives which token each row is.
  let origins: UnsafeMutableBufferPointer<Int32>
  let records: PruneRecords
}

/// What every encoder is made of.
struct VisionParts {
  let binding: Binding
  let stream: WeightStream
  let operations: Operations
}

/// The encoder's part of the arena: what a family needs of it.
enum VisionRegions: Equatable, Sendable {
  case llava(LLaVARegions)
  case llavaNext(LLaVANextRegions)
  case smolVLM(SmolVLMRegions)
  case qwen(QwenRegions)

  /// Nil where no image comes.
  init?(_ layout: inout Layout, _ model: ModelConfig, limits: Limits, chunkRows: Int) {
    guard let vision = model.vision, limits.imageCount > 0 else { return nil }
    let textDim = model.text.dim
    switch vision {
    case .llava(let config):
      self = .llava(LLaVARegions(&layout, config, limits: limits, chunkRows: chunkRows))
    case .llavaNext(let config):
      self = .llavaNext(LLaVANextRegions(&layout, config, limits: limits, chunkRows: chunkRows))
    case .smolVLM(let config):
      self = .smolVLM(SmolVLMRegions(&layout, config, limits: limits, chunkRows: chunkRows))
    case .qwen2VL(let config):
      self = .qwen(
        QwenRegions(
          &layout, config.tower, config.pixels, textDim: textDim, limits: limits,
          chunkRows: chunkRows))
    case .qwen25VL(let config):
      self = .qwen(
        QwenRegions(
          &layout, config.tower, config.pixels, textDim: textDim, limits: limits,
          chunkRows: chunkRows))
    case .qwen3VL(let config):
      self = .qwen(
        QwenRegions(
          &layout, config.tower, config.pixels, textDim: textDim, limits: limits,
          chunkRows: chunkRows))
    }
  }

  /// Where the buffers end that a decoded image needs.
  var imageEnd: Int {
    switch self {
    case .llava(let regions): regions.imageEnd
    case .llavaNext(let regions): regions.imageEnd
    case .smolVLM(let regions): regions.imageEnd
    case .qwen(let regions): regions.imageEnd
    }
  }

  /// Where everything ends that the encoder reads.
  var end: Int {
    switch self {
    case .llava(let regions): regions.tower.end
    case .llavaNext(let regions): regions.tower.end
    case .smolVLM(let regions): regions.tower.end
    case .qwen(let regions): regions.end
    }
  }
}

extension VisionConfig {
  /// False: an image of this size is too long.
  func takes(_ size: PixelSize) -> Bool {
    switch self {
    case .llava, .llavaNext, .smolVLM: true
    case .qwen2VL(let qwen): qwen.pixels.resize(size, qwen.tower) != nil
    case .qwen25VL(let qwen): qwen.pixels.resize(size, qwen.tower) != nil
    case .qwen3VL(let qwen): qwen.pixels.resize(size, qwen.tower) != nil
    }
  }

  /// What an image of this size, upright, is to the decoder.
  func layout(_ size: PixelSize) -> VisualLayout {
    switch self {
    case .llava(let config): config.layout
    case .llavaNext(let config): config.layout(size)
    case .smolVLM(let config): config.layout(size)
    case .qwen2VL(let config): config.pixels.layout(size, config.tower)
    case .qwen25VL(let config): config.pixels.layout(size, config.tower)
    case .qwen3VL(let config): config.pixels.layout(size, config.tower)
    }
  }

  /// Everything that an image can come to, whatever its size, by rising counts of tokens; of those with as many tokens,
  /// the one with the most rows.
  var layouts: [VisualLayout] {
    switch self {
    case .llava(let config): [config.layout]
    case .llavaNext(let config): config.layouts
    case .smolVLM(let config): config.layouts
    case .qwen2VL(let config): config.pixels.layouts(config.tower)
    case .qwen25VL(let config): config.pixels.layouts(config.tower)
    case .qwen3VL(let config): config.pixels.layouts(config.tower)
    }
  }

  /// Most visual tokens that an image can have.
  public var maxVisualTokenCount: Int { layouts.last?.tokenCount ?? 0 }

  /// Numbers of one head in the tower's attention.
  var headDim: Int {
    switch self {
    case .llava(let config): config.tower.headDim
    case .llavaNext(let config): config.tower.headDim
    case .smolVLM(let config): config.tower.headDim
    case .qwen2VL(let config): config.tower.headDim
    case .qwen25VL(let config): config.tower.headDim
    case .qwen3VL(let config): config.tower.headDim
    }
  }

  /// The same with images made square in another way; nil where they have a shape of their own.
  func with(fit: ImagePreprocessing.Fit) -> VisionConfig? {
    guard case .llava(var config) = self else { return nil }
    config.preprocessing = config.preprocessing.with(fit: fit, side: config.tower.imageSize)
    return .llava(config)
  }

  /// Whether an image's class token is one of its tokens.
  var hasClassToken: Bool {
    switch self {
    case .llava(let config): config.hasClassToken
    case .llavaNext, .smolVLM, .qwen2VL, .qwen25VL, .qwen3VL: false
    }
  }

  /// Whether the tower has a class token, whose attention can rank patches.
  var towerHasClassToken: Bool {
    switch self {
    case .llava, .llavaNext: true
    case .smolVLM, .qwen2VL, .qwen25VL, .qwen3VL: false
    }
  }

  /// Whether the encoder can drop tokens itself in this way.
  func canReduce(by method: PruneMethod) -> Bool {
    switch self {
    case .llava, .llavaNext, .smolVLM: !method.zipsByWindows
    case .qwen2VL, .qwen3VL: true
    case .qwen25VL(let qwen): !qwen.fullLayers.isEmpty
    }
  }

  /// What `visionzip` ranks patches by.
  func patchScore(_ pruning: Pruning) -> PatchScore {
    pruning.patchScore ?? (towerHasClassToken ? .cls : .received)
  }
}
