import PIOFormat

/// A SigLIP vision tower as Hugging Face checkpoints of SmolVLM and Idefics3 have it.
struct SigLIPReader {
  let tower: SigLIPConfig

  /// `root`: the configuration of the model that the tower is part of.
  init(_ root: ConfigObject) throws(ConvertError) {
    let vision =
      try root.object("vision_config")
      ?? ConfigObject(file: root.file, path: "vision_config.", members: [:])
    try vision.refuseQuantized()
    tower = try vision.siglipConfig()
  }

  static let prefix = "vision_model."

  static func name(of spec: TensorSpec) -> String {
    let last = spec.name.split(separator: ".").last!
    switch spec.name {
    case "vision.patch_embedding.weight", "vision.patch_embedding.bias":
      return prefix + "embeddings.patch_embedding.\(last)"
    case "vision.position_embedding": return prefix + "embeddings.position_embedding.weight"
    default: break
    }
    guard let tensor = LayerTensor(spec) else { return prefix + "post_layernorm.\(last)" }
    return prefix
      + tensor.name(layers: "encoder.layers", modules: VisionTransformerNames.checkpoint)
  }
}

extension ConfigObject {
  /// Keys that are absent take what `SmolVLMVisionConfig` and `Idefics3VisionConfig` have.
  fileprivate func siglipConfig() throws(ConvertError) -> SigLIPConfig {
    let types = ["idefics3", "idefics3_vision", "smolvlm_vision", "siglip_vision_model"]
    guard types.contains(try string("model_type", default: types[0])) else {
      throw unsupported("model_type")
    }
    var tower = SigLIPConfig()
    (tower.dim, tower.hiddenDim, tower.layerCount, tower.headCount) = (1152, 3072, 12, 16)
    (tower.imageSize, tower.patchSize) = (224, 32)
    try readTransformer(&tower, defaultActivation: "gelu_pytorch_tanh")
    return tower
  }
}

// MARK: GGUF

/// A SigLIP vision tower in an `mmproj` file of architecture `clip`.
struct GGUFSigLIPReader {
  let tower: SigLIPConfig
  private let swapsMLP: Bool

  init(_ file: GGUFFile) throws(ConvertError) {
    var tower = SigLIPConfig()
    try file.readTransformer(&tower)
    tower.layerCount = try file.needed("clip.vision.block_count", in: 1...1024)
    // llama.cpp's converters write `use_gelu` for the tanh approximation that these towers have.
    for key in ["clip.use_silu"] where try file.bool(key, default: false) {
      throw file.failure(key, "is not supported")
    }
    self.tower = tower
    swapsMLP = file.swapsMLP(dim: tower.dim)
  }

  func name(of spec: TensorSpec) -> String {
    let last = spec.name.split(separator: ".").last!
    switch spec.name {
    case "vision.patch_embedding.weight", "vision.patch_embedding.bias":
      return "v.patch_embd.\(last)"
    case "vision.position_embedding": return "v.position_embd.weight"
    default: break
    }
    guard let tensor = LayerTensor(spec) else { return "v.post_ln.\(last)" }
    return tensor.name(layers: "v.blk", modules: VisionTransformerNames.gguf(swapsMLP: swapsMLP))
  }
}
