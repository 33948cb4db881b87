import PIOFormat

/// Decoders that differ in their configurations' defaults and in the sliding window.
enum DecoderFamily: String {
  case llama, mistral

  /// What `architectures` in `config.json` is.
  var architecture: String {
    switch self {
    case .llama: "LlamaForCausalLM"
    case .mistral: "MistralForCausalLM"
    }
  }

  fileprivate var defaultHiddenDim: Int { self == .mistral ? 14_336 : 11_008 }
  fileprivate var defaultMaxPositions: Int { self == .mistral ? 131_072 : 2048 }

  fileprivate func defaultKVHeadCount(of headCount: Int) -> Int { self == .mistral ? 8 : headCount }
}

let dimRange = 1...(1 << 20)

extension ConfigObject {
  func textConfig(
    _ family: DecoderFamily
  ) throws(ConvertError) -> (TextConfig, RotaryFrequencies) {
    var text = TextConfig()
    try readSizes(&text, family)
    try readHeads(&text, family)
    text.vocabSize = try count("vocab_size", default: 32_000, in: 1...(1 << 22))
    text.maxPositions = try count(
      "max_position_embeddings", default: family.defaultMaxPositions, in: 1...(1 << 24))
    text.rmsNormEpsilon = Float(try double("rms_norm_eps", default: 1e-6))
    if family == .llama { try readBiases(&text) }
    text.tiedHead = try bool("tie_word_embeddings", default: false)
    try refuseOtherLayers()
    try readSlidingWindow(&text, family)
    let rope = try RotaryFrequencies(self, headDim: text.headDim, maxPositions: text.maxPositions)
    text.ropeTheta = Float(rope.theta)
    text.ropeScaling = rope.scaling
    text.ropeAttentionFactor = Float(rope.attentionFactor)
    return (text, rope)
  }

  private func readSizes(
    _ text: inout TextConfig, _ family: DecoderFamily
  ) throws(ConvertError) {
    text.dim = try count("hidden_size", default: 4096, in: dimRange)
    text.hiddenDim = try count(
      "intermediate_size", default: family.defaultHiddenDim, in: dimRange)
    text.layerCount = try count("num_hidden_layers", default: 32, in: 1...1024)
  }

  private func readHeads(
    _ text: inout TextConfig, _ family: DecoderFamily
  ) throws(ConvertError) {
    text.headCount = try count("num_attention_heads", default: 32, in: 1...4096)
    text.kvHeadCount = try count(
      "num_key_value_heads", default: family.defaultKVHeadCount(of: text.headCount),
      in: 1...text.headCount)
    guard text.headCount % text.kvHeadCount == 0 else {
      throw failure(
        "num_key_value_heads",
        "\(text.kvHeadCount) does not divide num_attention_heads, \(text.headCount)")
    }
    text.headDim = try count("head_dim", default: text.dim / text.headCount, in: 2...4096)
    guard text.headDim % 2 == 0 else {
      throw failure("head_dim", "is \(text.headDim), not an even number")
    }
  }

  private func readBiases(_ text: inout TextConfig) throws(ConvertError) {
    text.queryKeyValueBias = try bool("attention_bias", default: false)
    text.attentionOutputBias = text.queryKeyValueBias
    text.mlpBias = try bool("mlp_bias", default: false)
  }

  private func refuseOtherLayers() throws(ConvertError) {
    guard try string("hidden_act", default: "silu") == "silu" else {
      throw unsupported("hidden_act")
    }
    for key in ["layer_types", "num_local_experts"] where self[key] != nil {
      throw unsupported(key)
    }
  }

  /// Null is no window, a missing key Mistral's default one; one that no sequence fills is none.
  private func readSlidingWindow(
    _ text: inout TextConfig, _ family: DecoderFamily
  ) throws(ConvertError) {
    let key = "sliding_window"
    guard family == .mistral else {
      guard self[key] == nil else { throw unsupported(key) }
      return
    }
    guard members[key] != .null else { return }
    let window = try count(key, default: 4096, in: 1...(1 << 24))
    if window < text.maxPositions { text.slidingWindow = window }
  }
}
