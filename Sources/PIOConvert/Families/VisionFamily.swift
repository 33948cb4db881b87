import PIOBase
import PIOFormat

/// The vision half of a model in some source: its configuration, and how the source names and
/// shapes our tensors of it.
protocol VisionSource {
  var config: VisionConfig { get }
  func name(of spec: TensorSpec) -> String
  /// Where it is not (rows, columns).
  func shape(of spec: TensorSpec) -> [Int]?
  /// What of the source's tensor of that name it is.
  func part(of spec: TensorSpec) -> SourcePart
  /// Tensors that may be there and change nothing.
  func isIgnorable(_ name: String) -> Bool
}

/// What of a source's tensor one of ours is.
enum SourcePart: Equatable {
  case whole
  /// The `index`-th of `count` equal runs of rows.
  case rows(index: Int, of: Int)
  /// The sum over the frames of a convolution in time, which is what it makes of a frame that stands still.
  case summedFrames(Int)
}

extension VisionSource {
  func part(of spec: TensorSpec) -> SourcePart { .whole }

  /// Another tensor of the source that is added to the one of `spec`; nil: none is.
  func addedName(of spec: TensorSpec) -> String? {
    (self as? any SummedVisionSource)?.addedName(of: spec)
  }
}

/// A source some of whose tensors are sums of two.
protocol SummedVisionSource: VisionSource {
  func addedName(of spec: TensorSpec) -> String?
}

/// The vision half of a Hugging Face checkpoint.
protocol CheckpointVision: VisionSource {
  /// What `architectures` in `config.json` may be.
  static var architectures: [String] { get }
  /// Of the configuration's class.
  static var defaultImageTokenID: Int { get }
  /// What the decoder's tensors begin with, and what its head is called, as `canonicalName` says names.
  static var decoderPrefix: String { get }
  static var headName: String { get }
  /// The decoder of such a model.
  static func textConfig(_ root: ConfigObject) throws(ConvertError) -> (
    TextConfig, RotaryFrequencies
  )

  /// `root`: the whole of `config.json`. `textDim`: numbers of a row of the decoder.
  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError)

  /// The name as the newest checkpoints have it, `model.` left out; nil: no tensor of the family.
  func canonicalName(_ name: String) -> String?
}

extension CheckpointVision {
  static var decoderPrefix: String { "language_model.model." }
  static var headName: String { "language_model.lm_head.weight" }

  static func textConfig(_ root: ConfigObject) throws(ConvertError) -> (
    TextConfig, RotaryFrequencies
  ) { try root.innerTextConfig() }
}

/// What `model_type` in `config.json` makes of a checkpoint.
enum ModelFamily {
  case decoder(DecoderFamily)
  case vision(any CheckpointVision.Type)

  init(_ root: ConfigObject) throws(ConvertError) {
    let type = try root.string("model_type", default: "missing")
    switch type {
    case "llava": self = .vision(LLaVACheckpoint.self)
    case "llava_next": self = .vision(LLaVANextCheckpoint.self)
    case "smolvlm", "idefics3": self = .vision(SmolVLMCheckpoint.self)
    case "qwen2_vl": self = .vision(Qwen2VLCheckpoint.self)
    case "qwen2_5_vl": self = .vision(Qwen25VLCheckpoint.self)
    case "qwen3_vl": self = .vision(Qwen3VLCheckpoint.self)
    case "llama": self = .decoder(.llama)
    case "mistral": self = .decoder(.mistral)
    default:
      let name = unsupportedFamilies[type].map { " (\($0))" } ?? ""
      throw root.failure(
        "model_type", "'\(type.shortened)'\(name) is not supported: \(supportedFamilies) are")
    }
  }

  var architectures: [String] {
    switch self {
    case .decoder(let family): [family.architecture]
    case .vision(let family): family.architectures
    }
  }
}

private let supportedFamilies =
  "LLaVA, LLaVA-NeXT, SmolVLM, Idefics3, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Llama and Mistral"

/// By `model_type`.
private let unsupportedFamilies = [
  "qwen3_vl_moe": "Qwen3-VL, a mixture of experts", "qwen3_5": "Qwen3.5",
  "internvl": "InternVL", "lfm2_vl": "LFM2-VL", "gemma3": "Gemma 3",
]

extension GGUFFile {
  /// The vision half that an `mmproj` file holds.
  func visionSource(textDim: Int) throws(ConvertError) -> any VisionSource {
    try checkVisionArchitecture()
    let projector = try projectorType()
    let key = "clip.vision.mm_patch_merge_type"
    let merge = try text(key) ?? "flat"
    switch (projector.type, merge) {
    case ("mlp", "flat"): return try LLaVAProjectorFile(self, textDim: textDim)
    case ("mlp", "spatial_unpad"): return try LLaVANextProjectorFile(self, textDim: textDim)
    case ("idefics3", _): return try SmolVLMProjectorFile(self, textDim: textDim)
    case ("qwen2vl_merger", _): return try Qwen2VLProjectorFile(self)
    case ("qwen2.5vl_merger", _): return try Qwen25VLProjectorFile(self)
    case ("qwen3vl_merger", _): return try Qwen3VLProjectorFile(self)
    case ("mlp", _):
      throw failure(key, "'\(merge.shortened)' is not supported (flat, spatial_unpad are)")
    default:
      throw failure(
        projector.key,
        "'\(projector.type.shortened)' is not supported (mlp, idefics3, qwen2vl_merger, qwen2.5vl_merger and qwen3vl_merger are)"
      )
    }
  }

  private func checkVisionArchitecture() throws(ConvertError) {
    let architecture = try text("general.architecture") ?? "missing"
    guard architecture == "clip" else {
      throw failure(
        "general.architecture",
        "'\(architecture.shortened)' is not that of a vision encoder with projector (clip is)")
    }
    guard try bool("clip.has_vision_encoder", default: true) else {
      throw failure("clip.has_vision_encoder", "is false")
    }
  }

  /// Files of llama.cpp's first converters say nothing: they are of LLaVA.
  private func projectorType() throws(ConvertError) -> (key: String, type: String) {
    for key in ["clip.projector_type", "clip.vision.projector_type"] {
      if let type = try text(key), type != "mlp" { return (key, type) }
    }
    return ("clip.projector_type", "mlp")
  }
}
