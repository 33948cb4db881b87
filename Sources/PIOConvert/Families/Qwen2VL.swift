import PIOFormat

/// Qwen2-VL as a Hugging Face checkpoint.
struct Qwen2VLCheckpoint: QwenCheckpoint {
  static let architectures = ["Qwen2VLForConditionalGeneration"]

  let config: VisionConfig
  let tower: QwenTowerConfig
  let frames: Int

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

  func name(of spec: TensorSpec) -> String {
    QwenNames.checkpoint(spec, mlp: ["mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"])
  }
}
