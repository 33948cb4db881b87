import PIOBase
import PIOFormat

/// What the sources of vision transformers have in common: `VisionTransformerConfig` in both kinds of source.
enum VisionTransformerNames {
  /// What checkpoints call the modules of a layer.
  static let checkpoint = [
    "attention_norm": "layer_norm1", "mlp_norm": "layer_norm2",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "attention.output": "self_attn.out_proj",
    "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2",
  ]

  /// What GGUF files call them. Those made for some models call the first matrix of an MLP `ffn_down`.
  static func gguf(swapsMLP: Bool) -> [String: String] {
    [
      "attention_norm": "ln1", "mlp_norm": "ln2", "attention.query": "attn_q",
      "attention.key": "attn_k", "attention.value": "attn_v", "attention.output": "attn_out",
      "mlp.up": swapsMLP ? "ffn_down" : "ffn_up", "mlp.down": swapsMLP ? "ffn_up" : "ffn_down",
    ]
  }
}

extension VisionTransformerConfig {
  /// The patch embedding is a convolution in every source.
  func sourceShape(of spec: TensorSpec) -> [Int]? {
    spec.name == "vision.patch_embedding.weight" ? [dim, 3, patchSize, patchSize] : nil
  }
}

extension ConfigObject {
  /// Fills in what `tower`, which holds the configuration class's own numbers, is said to be.
  func readTransformer(
    _ tower: inout some VisionTransformerConfig, defaultActivation: String
  ) throws(ConvertError) {
    guard try int("num_channels", default: 3) == 3 else { throw unsupported("num_channels") }
    tower.dim = try count("hidden_size", default: tower.dim, in: dimRange)
    tower.hiddenDim = try count("intermediate_size", default: tower.hiddenDim, in: dimRange)
    tower.layerCount = try count("num_hidden_layers", default: tower.layerCount, in: 1...1024)
    tower.headCount = try count("num_attention_heads", default: tower.headCount, in: 1...4096)
    guard tower.dim % tower.headCount == 0 else {
      throw failure(
        "hidden_size", "\(tower.dim) is not a multiple of num_attention_heads, \(tower.headCount)")
    }
    tower.patchSize = try count("patch_size", default: tower.patchSize, in: 1...1024)
    tower.imageSize = try count(
      "image_size", default: tower.imageSize, in: tower.patchSize...8192)
    if let epsilon = try optionalDouble("layer_norm_eps") {
      tower.layerNormEpsilon = Float(epsilon)
    }
    tower.activation = try activation("hidden_act", default: defaultActivation)
  }
}

extension GGUFFile {
  func readTransformer(_ tower: inout some VisionTransformerConfig) throws(ConvertError) {
    let key = "clip.vision.embedding_length"
    tower.dim = try needed(key, in: dimRange)
    tower.hiddenDim = try needed("clip.vision.feed_forward_length", in: dimRange)
    tower.headCount = try needed("clip.vision.attention.head_count", in: 1...4096)
    guard tower.dim % tower.headCount == 0 else {
      throw failure(
        key,
        "\(tower.dim) is not a multiple of clip.vision.attention.head_count, \(tower.headCount)")
    }
    tower.patchSize = try needed("clip.vision.patch_size", in: 1...1024)
    tower.imageSize = try needed("clip.vision.image_size", in: tower.patchSize...8192)
    if let epsilon = try number("clip.vision.attention.layer_norm_epsilon") {
      tower.layerNormEpsilon = Float(epsilon)
    }
  }

  /// Whether the file calls the first matrix of an MLP `ffn_down`.
  func swapsMLP(dim: Int) -> Bool { tensor("v.blk.0.ffn_down.weight")?.shape.last == dim }

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
