import PIOFormat

/// A CLIP vision tower in an `mmproj` file of architecture `clip`, as llama.cpp's converters write
/// it for LLaVA-1.5 and 1.6.
struct GGUFCLIPReader {
  /// Up to the feature layer.
  let tower: CLIPConfig
  /// The file calls the first matrix of a layer's MLP `ffn_down`, as those made for LLaVA do.
  private let swapsMLP: Bool

  init(_ file: GGUFFile) throws(ConvertError) {
    let tower = try file.clipConfig()
    self.tower = tower
    swapsMLP = file.swapsMLP(dim: tower.dim)
  }

  func name(of spec: TensorSpec) -> String {
    switch spec.name {
    case "vision.patch_embedding.weight": return "v.patch_embd.weight"
    case "vision.class_embedding": return "v.class_embd"
    case "vision.position_embedding": return "v.position_embd.weight"
    default: break
    }
    guard let tensor = LayerTensor(spec) else {
      return "v.pre_ln.\(spec.name.split(separator: ".").last!)"
    }
    return tensor.name(layers: "v.blk", modules: VisionTransformerNames.gguf(swapsMLP: swapsMLP))
  }

  /// The norm after the last layer, and layers after the feature layer.
  func isIgnorable(_ name: String) -> Bool {
    if name.hasPrefix("v.post_ln.") { return true }
    guard let layer = layerIndex(name, after: "v.blk.") else { return false }
    return layer >= tower.layerCount
  }
}

extension GGUFFile {
  fileprivate func clipConfig() throws(ConvertError) -> CLIPConfig {
    var tower = CLIPConfig()
    try readTransformer(&tower)
    guard tower.imageSize % tower.patchSize == 0 else {
      throw failure(
        "clip.vision.image_size",
        "\(tower.imageSize) is not a multiple of clip.vision.patch_size, \(tower.patchSize)")
    }
    guard try !bool("clip.use_silu", default: false) else {
      throw failure("clip.use_silu", "is not supported")
    }
    tower.activation = try bool("clip.use_gelu", default: false) ? .gelu : .quickGelu
    tower.layerCount = try featureLayer(dim: tower.dim)
    return tower
  }

  /// How many layers run. A file that does not say which layer's output is the feature means the
  /// last but one of the encoder it was made from.
  ///
  /// Converters have written these files in two ways: with all layers of the encoder, or without
  /// the last one, which no image reaches. The second kind is known by a layer more than it
  /// counts, or by the 23 layers it has of CLIP ViT-L's 24.
  private func featureLayer(dim: Int) throws(ConvertError) -> Int {
    let blocks = try needed("clip.vision.block_count", in: 1...1024)
    let key = "clip.vision.feature_layer"
    if let layers = try numbers(key, atMost: 64) {
      guard layers.count == 1, let layer = Int(exactly: layers[0]), (0...blocks).contains(layer)
      else { throw failure(key, "is not one layer in 0…\(blocks)") }
      return layer
    }
    let isCut = tensor("v.blk.\(blocks).ln1.weight") != nil || (dim == 1024 && blocks == 23)
    return isCut ? blocks : blocks - 1
  }
}
