import PIOFormat

/// A CLIP vision tower as Hugging Face checkpoints have it.
struct CLIPReader {
  /// Up to the feature layer.
  let tower: CLIPConfig
  /// Of the checkpoint; those after the feature layer are not converted.
  private let layerCount: Int

  /// `root`: the configuration of the model that the tower is part of.
  init(_ root: ConfigObject) throws(ConvertError) {
    let vision = try root.object("vision_config") ?? root.defaultVision
    try vision.refuseQuantized()
    var tower = try vision.clipConfig()
    layerCount = tower.layerCount
    tower.layerCount = try root.featureLayer(of: layerCount)
    self.tower = tower
  }

  /// The layers after the feature layer, the norm after them, and a table that is computed.
  func isIgnorable(_ name: String) -> Bool {
    if name.hasPrefix(Self.prefix + "post_layernorm.") { return true }
    if name == Self.prefix + "embeddings.position_ids" { return true }
    guard let layer = layerIndex(name, after: Self.prefix + "encoder.layers.") else {
      return false
    }
    return (tower.layerCount..<layerCount).contains(layer)
  }
}

// MARK: Names

extension CLIPReader {
  private static let prefix = "vision_tower.vision_model."

  /// Some generations of checkpoints leave `vision_model.` out.
  static func canonicalName(_ name: String) -> String? {
    if name.hasPrefix(prefix) { return name }
    let short = "vision_tower."
    return name.hasPrefix(short) ? prefix + name.dropFirst(short.count) : nil
  }

  static func name(of spec: TensorSpec) -> String {
    switch spec.name {
    case "vision.patch_embedding.weight": return prefix + "embeddings.patch_embedding.weight"
    case "vision.class_embedding": return prefix + "embeddings.class_embedding"
    case "vision.position_embedding": return prefix + "embeddings.position_embedding.weight"
    default: break
    }
    guard let tensor = LayerTensor(spec) else {
      return prefix + "pre_layrnorm.\(spec.name.split(separator: ".").last!)"
    }
    return prefix + tensor.name(layers: "encoder.layers", modules: modules)
  }

  private static let modules = [
    "attention_norm": "layer_norm1", "mlp_norm": "layer_norm2",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "attention.output": "self_attn.out_proj",
    "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2",
  ]
}

extension CLIPConfig {
  /// The patch embedding is a convolution in every source.
  func sourceShape(of spec: TensorSpec) -> [Int]? {
    spec.name == "vision.patch_embedding.weight" ? [dim, 3, patchSize, patchSize] : nil
  }
}

// MARK: Configuration

extension ConfigObject {
  /// What `transformers` takes for a LLaVA configuration without a `vision_config`.
  fileprivate var defaultVision: ConfigObject {
    ConfigObject(
      file: file, path: "vision_config.",
      members: [
        "intermediate_size": .integer(4096), "hidden_size": .integer(1024),
        "patch_size": .integer(14), "image_size": .integer(336),
        "num_hidden_layers": .integer(24), "num_attention_heads": .integer(16),
      ])
  }

  fileprivate func clipConfig() throws(ConvertError) -> CLIPConfig {
    guard try string("model_type", default: "clip_vision_model") == "clip_vision_model" else {
      throw unsupported("model_type")
    }
    guard try int("num_channels", default: 3) == 3 else { throw unsupported("num_channels") }
    var tower = CLIPConfig()
    try readLayerSizes(&tower)
    try readImageSizes(&tower)
    tower.layerNormEpsilon = Float(try double("layer_norm_eps", default: 1e-5))
    tower.activation = try activation("hidden_act", default: "quick_gelu")
    return tower
  }

  private func readLayerSizes(_ tower: inout CLIPConfig) throws(ConvertError) {
    tower.dim = try count("hidden_size", default: 768, in: dimRange)
    tower.hiddenDim = try count("intermediate_size", default: 3072, in: dimRange)
    tower.layerCount = try count("num_hidden_layers", default: 12, in: 1...1024)
    tower.headCount = try count("num_attention_heads", default: 12, in: 1...4096)
    guard tower.dim % tower.headCount == 0 else {
      throw failure(
        "hidden_size", "\(tower.dim) is not a multiple of num_attention_heads, \(tower.headCount)")
    }
  }

  private func readImageSizes(_ tower: inout CLIPConfig) throws(ConvertError) {
    tower.patchSize = try count("patch_size", default: 32, in: 1...1024)
    tower.imageSize = try count("image_size", default: 224, in: tower.patchSize...8192)
    guard tower.imageSize % tower.patchSize == 0 else {
      throw failure(
        "image_size", "\(tower.imageSize) is not a multiple of patch_size, \(tower.patchSize)")
    }
  }

  /// How many layers run, of the `layerCount` there are.
  fileprivate func featureLayer(of layerCount: Int) throws(ConvertError) -> Int {
    let key = "vision_feature_layer"
    if case .array? = self[key] { throw unsupported(key) }
    let layer = try int(key, default: -2)
    // Hidden state 0 is the first layer's input, so that there is one more than layers.
    guard (-layerCount - 1...layerCount).contains(layer) else {
      throw failure(
        key, "is \(layer), not in \(-layerCount - 1)…\(layerCount) of \(layerCount) layers")
    }
    return layer < 0 ? layerCount + 1 + layer : layer
  }
}
