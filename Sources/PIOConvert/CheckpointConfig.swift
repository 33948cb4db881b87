import PIOBase
import PIOFormat

/// What a folder's configuration files say, as far as it runs here.
///
/// Keys that are absent take the defaults of the `transformers` configuration classes (5.x):
/// published files leave out what equals them.
struct CheckpointConfig {
  var text: TextConfig
  var vision: VisionConfig?
  var rope: RotaryFrequencies
  /// Of the checkpoint's vision tower; those behind the feature layer are not converted.
  var visionLayerCount = 0
  /// What `<image>` is in the token stream; nil for a decoder alone.
  var imageTokenID: Int?

  init(folder: String) throws(ConvertError) {
    let root = try ConfigObject(folder: folder, file: "config.json")
    let modelType = try root.string("model_type", default: "missing")
    guard let architecture = architectures.first(where: { $0.type == modelType }) else {
      let known = architectures.map(\.type).joined(separator: ", ")
      throw root.failure("model_type", "'\(modelType.shortened)' is not supported (\(known) are)")
    }
    try root.refuseQuantized()
    try root.checkArchitecture(architecture.name)
    if let family = TextFamily(rawValue: modelType) {
      (text, rope) = try root.textConfig(family)
      return
    }
    let empty = ConfigObject(file: root.file, path: "text_config.", members: [:])
    let textObject = try root.object("text_config") ?? empty
    try textObject.refuseQuantized()
    guard let family = TextFamily(rawValue: try textObject.string("model_type", default: "llama"))
    else { throw textObject.unsupported("model_type") }
    (text, rope) = try textObject.textConfig(family)
    text.tiedHead = try root.bool("tie_word_embeddings", default: text.tiedHead) || text.tiedHead
    let visionObject = try root.object("vision_config") ?? root.defaultVision
    try visionObject.refuseQuantized()
    var llava = LLaVAConfig()
    llava.tower = try visionObject.clipConfig(layerCount: &visionLayerCount)
    try root.readProjector(&llava, visionLayerCount: visionLayerCount, textDim: text.dim)
    if modelType == "llava_next" {
      var next = LLaVANextConfig()
      next.tower = llava.tower
      next.projector = llava.projector
      next.resolutions = try root.tiles(llava)
      next.preprocessing = try tilePreprocessing(
        folder: folder, imageSize: next.tower.imageSize, resolutions: next.resolutions)
      vision = .llavaNext(next)
    } else {
      llava.preprocessing = try imagePreprocessing(
        folder: folder, imageSize: llava.tower.imageSize)
      vision = .llava(llava)
    }
    let key = root["image_token_index"] == nil ? "image_token_id" : "image_token_index"
    imageTokenID = try root.count(key, default: 32_000, in: 0...text.vocabSize - 1)
  }
}

/// `model_type`, and what `architectures` then is.
private let architectures = [
  (type: "llava", name: "LlavaForConditionalGeneration"),
  (type: "llava_next", name: "LlavaNextForConditionalGeneration"),
  (type: "llama", name: "LlamaForCausalLM"),
  (type: "mistral", name: "MistralForCausalLM"),
]

/// Decoders that differ in their configurations' defaults and in the sliding window.
private enum TextFamily: String {
  case llama, mistral
}

extension ConfigObject {
  fileprivate func refuseQuantized() throws(ConvertError) {
    guard let quantization = try object("quantization_config") else { return }
    let method = try quantization.string("quant_method", default: "unknown")
    throw failure(
      "quantization_config",
      "('\(method.shortened)') is not supported: convert the checkpoint it was made from")
  }

  fileprivate func checkArchitecture(_ wanted: String) throws(ConvertError) {
    guard let architectures = self["architectures"] else { return }
    guard case .array(let names) = architectures, names.contains(.string(wanted)) else {
      throw failure("architectures", "\(architectures.quoted) is not supported (\(wanted) is)")
    }
  }

  fileprivate func textConfig(
    _ family: TextFamily
  ) throws(ConvertError) -> (TextConfig, RotaryFrequencies) {
    var text = TextConfig()
    let isMistral = family == .mistral
    text.dim = try count("hidden_size", default: 4096, in: dims)
    text.hiddenDim = try count("intermediate_size", default: isMistral ? 14_336 : 11_008, in: dims)
    text.layerCount = try count("num_hidden_layers", default: 32, in: 1...1024)
    text.headCount = try count("num_attention_heads", default: 32, in: 1...4096)
    text.kvHeadCount = try count(
      "num_key_value_heads", default: isMistral ? 8 : text.headCount, in: 1...text.headCount)
    guard text.headCount % text.kvHeadCount == 0 else {
      throw failure("num_key_value_heads", "does not divide num_attention_heads")
    }
    text.headDim = try count("head_dim", default: text.dim / text.headCount, in: 2...4096)
    guard text.headDim % 2 == 0 else { throw failure("head_dim", "\(text.headDim) is odd") }
    text.vocabSize = try count("vocab_size", default: 32_000, in: 1...(1 << 22))
    text.maxPositions = try count(
      "max_position_embeddings", default: isMistral ? 131_072 : 2048, in: 1...(1 << 24))
    text.rmsNormEpsilon = Float(try double("rms_norm_eps", default: 1e-6))
    if !isMistral {
      text.queryKeyValueBias = try bool("attention_bias", default: false)
      text.attentionOutputBias = text.queryKeyValueBias
      text.mlpBias = try bool("mlp_bias", default: false)
    }
    text.tiedHead = try bool("tie_word_embeddings", default: false)
    guard try string("hidden_act", default: "silu") == "silu" else {
      throw unsupported("hidden_act")
    }
    if isMistral {
      try readSlidingWindow(&text)
    } else if self["sliding_window"] != nil {
      throw unsupported("sliding_window")
    }
    for key in ["layer_types", "num_local_experts"] where self[key] != nil {
      throw unsupported(key)
    }
    let rope = try RotaryFrequencies(
      self, headDim: text.headDim, maxPositions: text.maxPositions)
    text.ropeTheta = Float(rope.theta)
    text.ropeScaling = rope.scaling
    text.ropeAttentionFactor = Float(rope.attentionFactor)
    return (text, rope)
  }

  /// Null is no window, a missing key the default one; one that no sequence fills is none.
  private func readSlidingWindow(_ text: inout TextConfig) throws(ConvertError) {
    guard members["sliding_window"] != .null else { return }
    let window = try count("sliding_window", default: 4096, in: 1...(1 << 24))
    if window < text.maxPositions { text.slidingWindow = window }
  }

  /// LLaVA-NeXT's resolutions.
  fileprivate func tiles(_ llava: LLaVAConfig) throws(ConvertError) -> [PixelSize] {
    guard try bool("use_image_newline_parameter", default: true) else {
      throw unsupported("use_image_newline_parameter")
    }
    // Tiles are put together by their patches: there is no place for a class token.
    guard llava.dropsClassToken else { throw unsupported("vision_feature_select_strategy") }
    return try resolutions("image_grid_pinpoints", imageSize: llava.tower.imageSize)
  }

  /// `[[height, width], …]`, multiples of `imageSize`; without the key those of LLaVA-NeXT's processor.
  func resolutions(_ key: String, imageSize: Int) throws(ConvertError) -> [PixelSize] {
    guard let value = self[key] else {
      return [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)].map {
        PixelSize(height: $0.0, width: $0.1)
      }
    }
    guard case .array(let pairs) = value, (1...64).contains(pairs.count) else {
      throw failure(key, "is no list of 1 to 64 resolutions")
    }
    var found: [PixelSize] = []
    for pair in pairs {
      guard case .array(let edges) = pair, edges.count == 2, case .integer(let height) = edges[0],
        case .integer(let width) = edges[1]
      else { throw failure(key, "has \(pair.quoted), which is no [height, width]") }
      for edge in [height, width] {
        guard (1...8192).contains(edge), edge % imageSize == 0 else {
          throw failure(key, "has \(pair.quoted), which tiles of \(imageSize) do not fill")
        }
      }
      found.append(PixelSize(height: height, width: width))
    }
    return found
  }

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

  fileprivate func clipConfig(layerCount: inout Int) throws(ConvertError) -> CLIPConfig {
    guard try string("model_type", default: "clip_vision_model") == "clip_vision_model" else {
      throw unsupported("model_type")
    }
    guard try int("num_channels", default: 3) == 3 else { throw unsupported("num_channels") }
    var tower = CLIPConfig()
    tower.dim = try count("hidden_size", default: 768, in: dims)
    tower.hiddenDim = try count("intermediate_size", default: 3072, in: dims)
    layerCount = try count("num_hidden_layers", default: 12, in: 1...1024)
    tower.headCount = try count("num_attention_heads", default: 12, in: 1...4096)
    guard tower.dim % tower.headCount == 0 else {
      throw failure("hidden_size", "is no multiple of num_attention_heads")
    }
    tower.patchSize = try count("patch_size", default: 32, in: 1...1024)
    tower.imageSize = try count("image_size", default: 224, in: tower.patchSize...8192)
    guard tower.imageSize % tower.patchSize == 0 else {
      throw failure("image_size", "\(tower.imageSize) is no multiple of patch_size")
    }
    tower.layerNormEpsilon = Float(try double("layer_norm_eps", default: 1e-5))
    tower.activation = try activation("hidden_act", default: "quick_gelu")
    return tower
  }

  /// The feature layer and the projector, of the LLaVA configuration itself.
  fileprivate func readProjector(
    _ llava: inout LLaVAConfig, visionLayerCount: Int, textDim: Int
  ) throws(ConvertError) {
    if case .array? = self["vision_feature_layer"] { throw unsupported("vision_feature_layer") }
    let layer = try int("vision_feature_layer", default: -2)
    // Hidden state 0 is the first layer's input, so that there is one more than layers.
    guard (-visionLayerCount - 1...visionLayerCount).contains(layer) else {
      throw failure("vision_feature_layer", "\(layer) is not among \(visionLayerCount) layers")
    }
    llava.tower.layerCount = layer < 0 ? visionLayerCount + 1 + layer : layer
    switch try string("vision_feature_select_strategy", default: "default") {
    case "default": llava.dropsClassToken = true
    case "full": llava.dropsClassToken = false
    default: throw unsupported("vision_feature_select_strategy")
    }
    llava.projector.hiddenDim = textDim
    llava.projector.activation = try activation("projector_hidden_act", default: "gelu")
    llava.projector.bias = try bool("multimodal_projector_bias", default: true)
  }

  private func activation(_ key: String, default name: String) throws(ConvertError) -> Activation {
    switch try string(key, default: name) {
    case "gelu", "gelu_python": return .gelu
    case "gelu_new", "gelu_pytorch_tanh": return .geluTanh
    case "quick_gelu": return .quickGelu
    default: throw unsupported(key)
    }
  }
}

private let dims = 1...(1 << 20)
