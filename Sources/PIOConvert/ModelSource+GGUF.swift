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
      try file.visionConfig(textDim: text.dim)
    }
    var config = ModelConfig(
      text: text, vision: vision, prompt: PromptTemplate(), specialTokens: SpecialTokens())
    config.text.ropeTheta = Float(rope.theta)
    config.text.ropeScaling = rope.scaling
    config.text.ropeAttentionFactor = Float(rope.attentionFactor)
    // Bounds first: the list of tensors is only as small as the numbers that make it.
    config.specialTokens.image = vision == nil ? -1 : 0
    try config.validated()
    var names = GGUFNames(text: file, projector: projector)
    try names.bind(config)
    let tokenizer = try file.tokenizer(
      chatTemplate: options.chatTemplate, vocabSize: text.vocabSize, hasImages: vision != nil)
    config.prompt = tokenizer.prompt
    config.specialTokens = tokenizer.special
    let files = [file] + (projector.map { [$0] } ?? [])
    try self.init(
      config: config, weights: names.weights, frequencies: rope.frequencies,
      tokenizer: tokenizer.section, ignored: names.ignored, files: SourceFiles(files),
      byteCount: files.reduce(0) { $0 + $1.file.byteCount })
  }
}

/// What stands behind a line of patches, in LLaVA-1.6's projector file.
private let newlineName = "model.image_newline"

/// Finds our tensors among those of GGUF files.
private struct GGUFNames {
  private let text: GGUFFile
  private let projector: GGUFFile?
  private(set) var weights: [WeightSource?] = []
  private(set) var ignored: [String] = []

  init(text: GGUFFile, projector: GGUFFile?) {
    self.text = text
    self.projector = projector
  }

  /// Finds every tensor of `config`, checks its shape and type, and that no other is left that
  /// would change the result.
  mutating func bind(_ config: ModelConfig) throws(ConvertError) {
    let files = [text] + (projector.map { [$0] } ?? [])
    let tensors = files.map { file in
      Dictionary(uniqueKeysWithValues: file.header.tensors.map { ($0.name, $0) })
    }
    let isSwapped = tensors.last?["v.blk.0.ffn_down.weight"].map {
      $0.shape.last == config.vision?.clip.dim
    }
    var used: [Set<String>] = [["rope_freqs.weight"], []]
    for spec in tensorSpecs(for: config) {
      guard spec.name != "text.rope.inverse_frequencies" else {
        weights.append(nil)
        continue
      }
      let name = Self.name(of: spec, isSwapped: isSwapped ?? false)
      let part = name == newlineName || name.hasPrefix("v.") || name.hasPrefix("mm.") ? 1 : 0
      guard let tensor = tensors[part][name] else { throw .missingTensor(name: name) }
      try Self.check(tensor, spec, config)
      weights.append(try files[part].weights(tensor, order: Self.order(spec, config.text)))
      used[part].insert(name)
    }
    var unknown: [String] = []
    for (part, file) in files.enumerated() {
      for tensor in file.header.tensors where !used[part].contains(tensor.name) {
        if Self.isIgnorable(tensor.name, config) {
          ignored.append(tensor.name)
        } else {
          unknown.append(tensor.name)
        }
      }
    }
    if let first = unknown.min() { throw .unknownTensors(first: first, count: unknown.count) }
    ignored.sort()
  }

  /// llama.cpp rotates neighbouring numbers where we rotate halves of a head, so its converter
  /// reorders the rows of queries and keys.
  private static func order(_ spec: TensorSpec, _ text: TextConfig) -> RowOrder {
    let parts = spec.name.split(separator: ".")
    guard case .decoderLayer = spec.section,
      parts[parts.count - 2] == "query" || parts[parts.count - 2] == "key"
    else { return .asStored }
    return .alternating(headDim: text.headDim)
  }

  private static func check(
    _ tensor: GGUFTensor, _ spec: TensorSpec, _ config: ModelConfig
  ) throws(ConvertError) {
    var needed = [spec.shape.rows, spec.shape.columns]
    if spec.name == "vision.patch_embedding.weight", let tower = config.vision?.clip {
      needed = [tower.dim, 3, tower.patchSize, tower.patchSize]
    } else if spec.role == .small, spec.name != "vision.position_embedding" {
      needed = [spec.shape.columns]
    }
    guard tensor.shape == needed else {
      throw .wrongShape(tensor: tensor.name, needed: needed, found: tensor.shape)
    }
  }

  /// The norm behind the last vision layer, vision layers behind the feature layer, and what old
  /// converters wrote of rotary tables.
  private static func isIgnorable(_ name: String, _ config: ModelConfig) -> Bool {
    if name.hasPrefix("v.post_ln.") || name.hasSuffix(".attn_rot_embd.weight") { return true }
    let layers = "v.blk."
    guard name.hasPrefix(layers), let tower = config.vision?.clip,
      let layer = Int(name.dropFirst(layers.count).prefix { $0 != "." })
    else { return false }
    return layer >= tower.layerCount
  }

  /// `isSwapped`: the file calls the first matrix of a vision layer's MLP `ffn_down`, as those
  /// made for LLaVA do.
  private static func name(of spec: TensorSpec, isSwapped: Bool) -> String {
    switch spec.name {
    case "text.embedding": return "token_embd.weight"
    case "text.norm.weight": return "output_norm.weight"
    case "text.head.weight": return "output.weight"
    case "projector.newline": return newlineName
    case "vision.patch_embedding.weight": return "v.patch_embd.weight"
    case "vision.class_embedding": return "v.class_embd"
    case "vision.position_embedding": return "v.position_embd.weight"
    default: break
    }
    let parts = spec.name.split(separator: ".").map(String.init)
    let suffix = parts[parts.count - 1]
    if parts[0] == "projector" { return "mm.\(parts[1] == "linear1" ? 0 : 2).\(suffix)" }
    if parts[1] == "pre_norm" { return "v.pre_ln.\(suffix)" }
    let isText = parts[0] == "text"
    let module =
      switch parts[3...].dropLast().joined(separator: ".") {
      case "attention_norm": isText ? "attn_norm" : "ln1"
      case "mlp_norm": isText ? "ffn_norm" : "ln2"
      case "attention.query": "attn_q"
      case "attention.key": "attn_k"
      case "attention.value": "attn_v"
      case "attention.output": isText ? "attn_output" : "attn_out"
      case "mlp.gate": "ffn_gate"
      case "mlp.up": isSwapped && !isText ? "ffn_down" : "ffn_up"
      default: isSwapped && !isText ? "ffn_up" : "ffn_down"
      }
    return "\(isText ? "blk" : "v.blk").\(parts[2]).\(module).\(suffix)"
  }
}
