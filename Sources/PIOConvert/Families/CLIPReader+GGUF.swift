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
    swapsMLP = file.tensor("v.blk.0.ffn_down.weight")?.shape.last == tower.dim
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
    return tensor.name(layers: "v.blk", modules: swapsMLP ? Self.swappedModules : Self.modules)
  }

  /// The norm after the last layer, and layers after the feature layer.
  func isIgnorable(_ name: String) -> Bool {
    if name.hasPrefix("v.post_ln.") { return true }
    guard let layer = layerIndex(name, after: "v.blk.") else { return false }
    return layer >= tower.layerCount
  }

  private static let modules = [
    "attention_norm": "ln1", "mlp_norm": "ln2", "attention.query": "attn_q",
    "attention.key": "attn_k", "attention.value": "attn_v", "attention.output": "attn_out",
    "mlp.up": "ffn_up", "mlp.down": "ffn_down",
  ]
  private static let swappedModules = modules.merging(["mlp.up": "ffn_down", "mlp.down": "ffn_up"])
  { $1 }
}

extension GGUFFile {
  fileprivate func clipConfig() throws(ConvertError) -> CLIPConfig {
    var tower = CLIPConfig()
    try readLayerSizes(&tower)
    try readImageSizes(&tower)
    tower.layerNormEpsilon =
      Float(try number("clip.vision.attention.layer_norm_epsilon") ?? 1e-5)
    guard try !bool("clip.use_silu", default: false) else {
      throw failure("clip.use_silu", "is not supported")
    }
    tower.activation = try bool("clip.use_gelu", default: false) ? .gelu : .quickGelu
    tower.layerCount = try featureLayer(dim: tower.dim)
    return tower
  }

  private func readLayerSizes(_ tower: inout CLIPConfig) throws(ConvertError) {
    let key = "clip.vision.embedding_length"
    tower.dim = try needed(key, in: dimRange)
    tower.hiddenDim = try needed("clip.vision.feed_forward_length", in: dimRange)
    tower.headCount = try needed("clip.vision.attention.head_count", in: 1...4096)
    guard tower.dim % tower.headCount == 0 else {
      throw failure(
        key,
        "\(tower.dim) is not a multiple of clip.vision.attention.head_count, \(tower.headCount)")
    }
  }

  private func readImageSizes(_ tower: inout CLIPConfig) throws(ConvertError) {
    let key = "clip.vision.image_size"
    tower.patchSize = try needed("clip.vision.patch_size", in: 1...1024)
    tower.imageSize = try needed(key, in: tower.patchSize...8192)
    guard tower.imageSize % tower.patchSize == 0 else {
      throw failure(
        key, "\(tower.imageSize) is not a multiple of clip.vision.patch_size, \(tower.patchSize)")
    }
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

  /// Mean and deviation of the encoder's input, and the colour of padding.
  func normalization() throws(ConvertError) -> ImagePreprocessing {
    var steps = ImagePreprocessing()
    steps.mean = try triple("clip.vision.image_mean", in: -1e6...1e6)
    steps.std = try triple("clip.vision.image_std", in: 1e-6...1e6)
    steps.padColor = padColor(
      (Double(steps.mean.0), Double(steps.mean.1), Double(steps.mean.2)))
    return steps
  }

  private func triple(
    _ key: String, in range: ClosedRange<Double>
  ) throws(ConvertError) -> (Float, Float, Float) {
    guard let numbers = try numbers(key, atMost: 3) else { throw failure(key, "is missing") }
    guard numbers.count == 3, numbers.allSatisfy(range.contains) else {
      throw failure(key, "is not three numbers in \(range.lowerBound)…\(range.upperBound)")
    }
    return (Float(numbers[0]), Float(numbers[1]), Float(numbers[2]))
  }
}
