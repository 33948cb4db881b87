import PIOFormat

/// Qwen2-VL as a Hugging Face checkpoint.
struct Qwen2VLCheckpoint: CheckpointVision {
  static let architectures = ["Qwen2VLForConditionalGeneration"]
  static let defaultImageTokenID = 151_655
  static let decoderPrefix = "language_model."
  static let headName = "lm_head.weight"

  let config: VisionConfig
  private let tower: QwenTowerConfig
  private let frames: Int

  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError) {
    let vision = try root.qwenVision()
    var qwen = Qwen2VLConfig()
    // Here `hidden_size` is the decoder's width.
    qwen.tower.dim = try vision.count("embed_dim", default: 1280, in: dimRange)
    let ratio = try vision.count("mlp_ratio", default: 4, in: 1...64)
    qwen.tower.hiddenDim = ratio * qwen.tower.dim
    try vision.readQwenTower(&qwen.tower)
    qwen.activation = try vision.activation("hidden_act", default: "quick_gelu")
    frames = try vision.qwenFrames()
    qwen.pixels = try processorConfig(folder: folder).pixelRange(qwen.tower, frames: frames)
    (config, tower) = (.qwen2VL(qwen), qwen.tower)
  }

  static func textConfig(
    _ root: ConfigObject
  ) throws(ConvertError) -> (TextConfig, RotaryFrequencies) { try root.qwenTextConfig() }

  func canonicalName(_ name: String) -> String? { QwenNames.canonical(name) }

  func name(of spec: TensorSpec) -> String {
    QwenNames.checkpoint(spec, mlp: ["mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"])
  }

  func shape(of spec: TensorSpec) -> [Int]? {
    QwenNames.shape(of: spec, tower, frames: frames)
  }

  func part(of spec: TensorSpec) -> SourcePart { QwenNames.part(of: spec, frames: frames) }

  func isIgnorable(_ name: String) -> Bool { false }
}
