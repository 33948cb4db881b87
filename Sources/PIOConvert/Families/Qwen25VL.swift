import PIOBase
import PIOFormat

/// Qwen2.5-VL as a Hugging Face checkpoint.
struct Qwen25VLCheckpoint: QwenCheckpoint {
  static let architectures = ["Qwen2_5_VLForConditionalGeneration"]

  let config: VisionConfig
  let tower: QwenTowerConfig
  let frames: Int

  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError) {
    let vision = try root.qwenVision()
    var qwen = Qwen25VLConfig()
    // The class's own number is no published model's.
    guard vision["hidden_size"] != nil else { throw vision.failure("hidden_size", "is missing") }
    qwen.tower.dim = try vision.count("hidden_size", default: 0, in: dimRange)
    qwen.tower.hiddenDim = try vision.count("intermediate_size", default: 3420, in: dimRange)
    try vision.readQwenTower(&qwen.tower)
    guard try vision.string("hidden_act", default: "silu") == "silu" else {
      throw vision.unsupported("hidden_act")
    }
    try vision.readWindows(&qwen)
    frames = try vision.qwenFrames()
    qwen.pixels = try processorConfig(folder: folder).pixelRange(qwen.tower, frames: frames)
    (config, tower) = (.qwen25VL(qwen), qwen.tower)
  }

  static func textConfig(
    _ root: ConfigObject
  ) throws(ConvertError) -> (TextConfig, RotaryFrequencies) { try root.qwenTextConfig() }

  func name(of spec: TensorSpec) -> String {
    QwenNames.checkpoint(
      spec,
      mlp: [
        "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
      ])
  }
}

extension ConfigObject {
  /// A window's side is given in pixels.
  fileprivate func readWindows(_ qwen: inout Qwen25VLConfig) throws(ConvertError) {
    let pixels = try count("window_size", default: 112, in: 1...65_536)
    qwen.window = pixels / qwen.tower.merge / qwen.tower.patchSize
    guard qwen.window >= 1 else {
      throw failure("window_size", "\(pixels) is less than a token, \(qwen.tower.cellSide)")
    }
    let key = "fullatt_block_indexes"
    guard let value = self[key] else {
      qwen.fullLayers = [7, 15, 23, 31].filter { $0 < qwen.tower.layerCount }
      return
    }
    guard case .array(let list) = value else { throw unsupported(key) }
    for element in list {
      guard case .integer(let layer) = element, (0..<qwen.tower.layerCount).contains(layer) else {
        throw failure(
          key, "has \(element.quoted), which is none of \(qwen.tower.layerCount) layers")
      }
      qwen.fullLayers.append(layer)
    }
  }
}
