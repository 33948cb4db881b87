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
    return prefix
      + tensor.name(layers: "encoder.layers", modules: VisionTransformerNames.checkpoint)
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
    var tower = CLIPConfig()
    (tower.dim, tower.hiddenDim, tower.layerCount, tower.headCount) = (768, 3072, 12, 12)
    (tower.imageSize, tower.patchSize) = (224, 32)
    try readTransformer(&tower, defaultActivation: "quick_gelu")
    guard tower.imageSize % tower.patchSize == 0 else {
      throw failure(
        "image_size", "\(tower.imageSize) is not a multiple of patch_size, \(tower.patchSize)")
    }
    return tower
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
