import PIOBase
import PIOFormat

extension ModelSource {
  /// A decoder, and with `options.projector` the vision encoder in front of it.
  init(gguf options: ConvertOptions) throws(ConvertError) {
    let file = try GGUFFile(path: options.source)
    let text = try file.textConfig()
    let rope = try file.rotary(text)
    let projector = try options.projector.map { path throws(ConvertError) in
      try GGUFFile(path: path)
    }
    let vision = try projector.map { file throws(ConvertError) in
      try file.visionSource(textDim: text.dim)
    }
    try file.check(vision?.config)
    var config = try ModelConfig(text: text, rope: rope, vision: vision?.config)
    var names = GGUFNames(text: file, projector: projector, vision: vision)
    try names.bind(config)
    let tokenizer = try file.tokenizer(
      chatTemplate: options.chatTemplate, vocabSize: text.vocabSize, hasImages: vision != nil)
    try config.add(tokenizer)
    try self.init(
      config: config, weights: names.weights, frequencies: rope.frequencies,
      tokenizer: tokenizer.section, ignored: names.ignored, files: SourceFiles(names.files),
      byteCount: names.files.reduce(0) { $0 + $1.file.byteCount })
  }
}

extension GGUFFile {
  /// A Qwen decoder takes the images of its own generation alone.
  fileprivate func check(_ vision: VisionConfig?) throws(ConvertError) {
    guard let vision else { return }
    let key = "general.architecture"
    let architecture = try architecture()
    let fits =
      switch vision {
      case .qwen2VL, .qwen25VL: architecture == .qwen2VL
      case .qwen3VL: architecture == .qwen3VL
      case .llava, .llavaNext, .smolVLM: architecture == .llama
      }
    guard fits else {
      throw failure(
        key, "is '\(architecture.rawValue)', which is no decoder of \(vision.familyName)")
    }
    let count = "\(architecture.rawValue).n_deepstack_layers"
    guard let layers = try int(count, in: 0...1024), layers != vision.deepstackCount else { return }
    throw failure(count, "is \(layers), where the mmproj file has \(vision.deepstackCount)")
  }
}

extension ModelConfig {
  /// Without prompt and special tokens. Checked, as the list of tensors is only as small as the
  /// numbers that make it.
  fileprivate init(
    text: TextConfig, rope: RotaryFrequencies, vision: VisionConfig?
  ) throws(ConvertError) {
    self.init(
      text: text, vision: vision, prompt: PromptTemplate(), specialTokens: SpecialTokens())
    self.text.ropeTheta = Float(rope.theta)
    self.text.ropeScaling = rope.scaling
    self.text.ropeAttentionFactor = Float(rope.attentionFactor)
    specialTokens.image = vision == nil ? -1 : 0
    try validated()
  }
}

/// Finds our tensors among those of GGUF files.
private struct GGUFNames {
  /// The decoder's, and with a vision encoder the projector's.
  let files: [GGUFFile]
  private let vision: (any VisionSource)?
  private(set) var weights: [WeightSource?] = []
  private(set) var ignored: [String] = []

  init(text: GGUFFile, projector: GGUFFile?, vision: (any VisionSource)?) {
    files = [text] + (projector.map { [$0] } ?? [])
    self.vision = vision
  }

  /// Finds every tensor of `config`, checks its shape and type, and that no other is left that
  /// would change the result.
  mutating func bind(_ config: ModelConfig) throws(ConvertError) {
    let tensors = files.map { file in
      Dictionary(uniqueKeysWithValues: file.header.tensors.map { ($0.name, $0) })
    }
    var used: [Set<String>] = [["rope_freqs.weight"], []]
    for spec in tensorSpecs(for: config) {
      guard spec.name != "text.rope.inverse_frequencies" else {
        weights.append(nil)
        continue
      }
      let (part, name) = (spec.isVision ? 1 : 0, name(of: spec))
      guard let tensor = tensors[part][name] else { throw .missingTensor(name: name) }
      try check(tensor, spec)
      var weight = try files[part].weights(tensor, order: try order(spec, config.text))
      if spec.isVision, let vision { weight = weight.taking(vision.part(of: spec)) }
      if let second = vision?.addedName(of: spec) {
        guard let other = tensors[part][second] else { throw .missingTensor(name: second) }
        try check(other, spec)
        guard other.typeNumber == tensor.typeNumber else {
          throw .unsupportedType(tensor: second, type: "another than \(name)'s")
        }
        weight.add(try files[part].weights(other))
        used[part].insert(second)
      }
      weights.append(weight)
      used[part].insert(name)
    }
    try sortOutUnused(used)
  }

  private mutating func sortOutUnused(_ used: [Set<String>]) throws(ConvertError) {
    var unknown: [String] = []
    for (part, file) in files.enumerated() {
      for tensor in file.header.tensors where !used[part].contains(tensor.name) {
        if isIgnorable(tensor.name) {
          ignored.append(tensor.name)
        } else {
          unknown.append(tensor.name)
        }
      }
    }
    if let first = unknown.min() { throw .unknownTensors(first: first, count: unknown.count) }
    ignored.sort()
  }

  /// llama.cpp rotates neighbouring numbers of a `llama`'s head where we rotate its halves, so its converter
  /// reorders the rows of queries and keys.
  private func order(_ spec: TensorSpec, _ text: TextConfig) throws(ConvertError) -> RowOrder {
    guard try files[0].architecture() == .llama, case .decoderLayer = spec.section,
      let tensor = LayerTensor(spec),
      ["attention.query", "attention.key"].contains(tensor.module)
    else { return .asStored }
    return .alternating(headDim: text.headDim)
  }

  private func check(_ tensor: GGUFTensor, _ spec: TensorSpec) throws(ConvertError) {
    let needed = spec.sourceShape(vision)
    guard tensor.shape == needed else {
      throw .wrongShape(tensor: tensor.name, needed: needed, found: tensor.shape)
    }
  }

  /// What old converters wrote of rotary tables, and what the vision encoder has beyond its features.
  private func isIgnorable(_ name: String) -> Bool {
    name.hasSuffix(".attn_rot_embd.weight") || vision?.isIgnorable(name) ?? false
  }

  private func name(of spec: TensorSpec) -> String {
    if spec.isVision, let vision { return vision.name(of: spec) }
    switch spec.name {
    case "text.embedding": return "token_embd.weight"
    case "text.head.weight": return "output.weight"
    default: break
    }
    guard let tensor = LayerTensor(spec) else { return "output_norm.weight" }
    return tensor.name(layers: "blk", modules: Self.modules)
  }

  private static let modules = [
    "attention_norm": "attn_norm", "mlp_norm": "ffn_norm", "attention.query": "attn_q",
    "attention.key": "attn_k", "attention.value": "attn_v", "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm", "attention.key_norm": "attn_k_norm",
    "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
  ]
}
