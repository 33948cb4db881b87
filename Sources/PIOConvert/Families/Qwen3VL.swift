import PIOBase
import PIOFormat

/// Qwen3-VL as a Hugging Face checkpoint.
struct Qwen3VLCheckpoint: QwenCheckpoint {
  static let architectures = ["Qwen3VLForConditionalGeneration"]

  let config: VisionConfig
  let tower: QwenTowerConfig
  let frames: Int

  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError) {
    let vision = try root.qwenVision()
    var qwen = Qwen3VLConfig()
    qwen.tower.dim = try vision.count("hidden_size", default: 1152, in: dimRange)
    qwen.tower.hiddenDim = try vision.count("intermediate_size", default: 4304, in: dimRange)
    try vision.readQwenTower(&qwen.tower, depth: 27, patchSize: 16)
    qwen.activation = try vision.activation("hidden_act", default: "gelu_pytorch_tanh")
    try vision.readPlaces(&qwen)
    try vision.readDeepstack(&qwen)
    frames = try vision.qwenFrames()
    qwen.pixels = try processorConfig(folder: folder).pixelRange(qwen.tower, frames: frames)
    (config, tower) = (.qwen3VL(qwen), qwen.tower)
  }

  static func textConfig(
    _ root: ConfigObject
  ) throws(ConvertError) -> (TextConfig, RotaryFrequencies) { try root.qwen3TextConfig() }

  func name(of spec: TensorSpec) -> String {
    QwenNames.checkpoint(
      spec, mlp: ["mlp.up": "mlp.linear_fc1", "mlp.down": "mlp.linear_fc2"],
      merger: ["norm": "norm", "linear1": "linear_fc1", "linear2": "linear_fc2"])
  }
}

extension ConfigObject {
  /// The configuration class's own numbers.
  private static var qwen3Text: [String: JSONValue] {
    [
      "rope_theta": .integer(500_000), "vocab_size": .integer(151_936),
      "intermediate_size": .integer(22_016), "head_dim": .integer(128),
      "max_position_embeddings": .integer(128_000), "rms_norm_eps": .number(1e-6),
      "mrope_section": .array([.integer(24), .integer(20), .integer(20)]),
    ]
  }

  /// A Qwen3 decoder: a norm of each head's queries and keys, no biases but where they are asked for, and positions whose
  /// frequencies take turns.
  fileprivate func qwen3TextConfig() throws(ConvertError) -> (TextConfig, RotaryFrequencies) {
    var (text, frequencies) = try qwenTextConfig(usual: Self.qwen3Text)
    let inner = try object("text_config") ?? self
    let hasBiases = try inner.bool("attention_bias", default: false)
    (text.queryKeyValueBias, text.attentionOutputBias) = (hasBiases, hasBiases)
    (text.queryKeyNorm, text.ropeInterleaves) = (true, true)
    for key in ["rope_scaling", "rope_parameters"] {
      guard let rope = try inner.object(key) else { continue }
      guard try rope.bool("mrope_interleaved", default: true) else {
        throw rope.unsupported("mrope_interleaved")
      }
    }
    return (text, frequencies)
  }

  /// The table of places is a square, and rotation has one base.
  fileprivate func readPlaces(_ qwen: inout Qwen3VLConfig) throws(ConvertError) {
    let key = "num_position_embeddings"
    let places = try count(key, default: 2304, in: 1...(1 << 20))
    qwen.positionsPerSide = Int(Double(places).squareRoot())
    guard qwen.positionsPerSide * qwen.positionsPerSide == places else {
      throw failure(key, "is \(places), which is no square")
    }
    guard let rope = try object("rope_parameters") else { return }
    guard try rope.string("rope_type", default: "axial") == "axial" else {
      throw rope.unsupported("rope_type")
    }
    guard try rope.optionalDouble("rope_theta") ?? 10_000 == 10_000 else {
      throw rope.unsupported("rope_theta")
    }
  }

  fileprivate func readDeepstack(_ qwen: inout Qwen3VLConfig) throws(ConvertError) {
    let key = "deepstack_visual_indexes"
    guard let value = self[key] else {
      qwen.deepstackLayers = [8, 16, 24].filter { $0 < qwen.tower.layerCount }
      return
    }
    guard case .array(let list) = value else { throw unsupported(key) }
    for element in list {
      let first = (qwen.deepstackLayers.last ?? -1) + 1
      guard case .integer(let layer) = element, layer >= first, layer < qwen.tower.layerCount else {
        throw failure(
          key,
          "has \(element.quoted), which is none of the layers \(first) to \(qwen.tower.layerCount - 1)"
        )
      }
      qwen.deepstackLayers.append(layer)
    }
  }
}
