import PIOBase
import PIOFormat

@testable import PIORuntime

/// The sizes of files that nobody has to write: LLaVA's shapes, with weights of one kind.
enum ModelShapes {
  static let llava7B = sizes(
    text: decoder(dim: 4096, hidden: 11008, layers: 32, heads: 32, kvHeads: 32), tied: false)
  static let tinyLlama = sizes(
    text: decoder(dim: 2048, hidden: 5632, layers: 22, heads: 32, kvHeads: 4), tied: false)
  static let tied = sizes(
    text: decoder(dim: 576, hidden: 1536, layers: 30, heads: 9, kvHeads: 3), tied: true)
  static let textOnly = sizes(
    text: decoder(dim: 2048, hidden: 5632, layers: 22, heads: 32, kvHeads: 4), tied: false,
    vision: false)
  static let all = [llava7B, tinyLlama, tied, textOnly]

  private static func decoder(
    dim: Int, hidden: Int, layers: Int, heads: Int, kvHeads: Int
  ) -> TextConfig {
    var text = TextConfig()
    text.dim = dim
    text.hiddenDim = hidden
    text.layerCount = layers
    text.headCount = heads
    text.kvHeadCount = kvHeads
    text.headDim = dim / heads
    text.vocabSize = 32064
    text.maxPositions = 4096
    return text
  }

  /// CLIP ViT-L/14 at 336 pixels, without its last layer.
  static let tower: CLIPConfig = {
    var tower = CLIPConfig()
    tower.imageSize = 336
    tower.patchSize = 14
    tower.dim = 1024
    tower.hiddenDim = 4096
    tower.layerCount = 23
    tower.headCount = 16
    return tower
  }()

  private static func llava(outputDim: Int) -> LLaVAConfig {
    var llava = LLaVAConfig()
    llava.tower = tower
    llava.projector.hiddenDim = outputDim
    llava.preprocessing.resizeTo = 336
    return llava
  }

  static func tiled(_ resolutions: [PixelSize], outputDim: Int) -> LLaVANextConfig {
    var next = LLaVANextConfig()
    next.tower = tower
    next.projector.hiddenDim = outputDim
    next.preprocessing.resizeTo = 336
    next.resolutions = resolutions
    return next
  }

  private static func sizes(text: TextConfig, tied: Bool, vision: Bool = true) -> ModelSizes {
    var text = text
    text.tiedHead = tied
    var special = SpecialTokens()
    special.end = [2]
    special.image = vision ? 32000 : -1
    let config = ModelConfig(
      text: text, vision: vision ? .llava(llava(outputDim: text.dim)) : nil,
      prompt: PromptTemplate(),
      specialTokens: special)
    let encodings = tensorSpecs(for: config).map { spec -> TensorEncoding in
      switch spec.role {
      case .small: .f32
      case .embedding: TensorEncoding(kind: .int8, layout: .rows, group: 32)
      case .matrix: TensorEncoding(kind: .int4, layout: .blocks16, group: 32)
      }
    }
    let layout = try! ModelLayout(
      config: config, encodings: encodings, tokenizerByteCount: 1 << 20,
      provenance: Provenance(converter: "test", recipe: "int4", sources: []))
    return ModelSizes(layout, config: config, maxPieceBytes: 48)
  }
}

let testProcess = ProcessMemory(baseBytes: 17 << 20)
