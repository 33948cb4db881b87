import PIOFormat

/// Finds our tensors among a checkpoint's, whichever generation of names it has.
///
/// Names are brought to those of the newest checkpoints, without a leading `model.` where there is a
/// vision encoder: the family's own for the decoder and its head (LLaVA: `language_model.model.`,
/// `language_model.lm_head.weight`) and for the rest; for a decoder alone `model.` and `lm_head.`
struct TensorNames {
  private let vision: (any CheckpointVision)?
  /// By the names above.
  private var locations: [String: Checkpoint.Location] = [:]
  /// Names that are no part of the architectures we know.
  private var unknown: [String] = []
  /// Checkpoint tensors the model does not need, in order of their names.
  private(set) var ignored: [String] = []
  /// Where each of `tensorSpecs` comes from; nil for the frequencies, which are computed.
  private var sources: [Checkpoint.Location?] = []
  private var parts: [SourcePart] = []

  init(_ checkpoint: Checkpoint, _ vision: (any CheckpointVision)?) throws(ConvertError) {
    self.vision = vision
    for (name, location) in checkpoint.tensors.sorted(by: { $0.key < $1.key }) {
      guard let canonical = canonicalName(name) else {
        unknown.append(name)
        continue
      }
      guard locations.updateValue(location, forKey: canonical) == nil else {
        throw .duplicateTensor(name: name)
      }
    }
  }

  /// Finds every tensor of `specs`, checks its shape and type, and that no other is left that would
  /// change the result.
  mutating func bind(_ specs: [TensorSpec], tiedHead: Bool) throws(ConvertError) {
    var used: Set<String> = tiedHead ? [embeddingName, headName] : []
    for spec in specs {
      guard spec.name != "text.rope.inverse_frequencies" else {
        sources.append(nil)
        parts.append(.whole)
        continue
      }
      let name = name(of: spec, tiedHead: tiedHead)
      guard let location = locations[name] else { throw .missingTensor(name: name) }
      try check(location.tensor, spec)
      sources.append(location)
      parts.append(spec.isVision ? vision?.part(of: spec) ?? .whole : .whole)
      used.insert(name)
    }
    try sortOutUnused(used)
  }

  /// What `bind` found, in the order of its specs.
  func weights(of checkpoint: Checkpoint) -> [WeightSource?] {
    zip(sources, parts).map { location, part in
      location.flatMap { WeightSource($0, of: checkpoint)?.taking(part) }
    }
  }

  private mutating func sortOutUnused(_ used: Set<String>) throws(ConvertError) {
    for (name, location) in locations where !used.contains(name) {
      if isIgnorable(name) {
        ignored.append(location.tensor.name)
      } else {
        unknown.append(location.tensor.name)
      }
    }
    if let first = unknown.min() { throw .unknownTensors(first: first, count: unknown.count) }
    ignored.sort()
  }

  private func check(_ tensor: SourceTensor, _ spec: TensorSpec) throws(ConvertError) {
    let needed = spec.sourceShape(vision)
    guard tensor.shape == needed else {
      throw .wrongShape(tensor: tensor.name, needed: needed, found: tensor.shape)
    }
    if case .other(let type) = tensor.type {
      throw .unsupportedType(tensor: tensor.name, type: type)
    }
  }

  /// Tensors that a checkpoint may have and that change nothing: tables that are computed, and what
  /// the vision encoder has beyond its features.
  private func isIgnorable(_ name: String) -> Bool {
    if name.hasPrefix(textPrefix), name.hasSuffix("rotary_emb.inv_freq") { return true }
    return vision?.isIgnorable(name) ?? false
  }
}

// MARK: Names

extension TensorNames {
  private var textPrefix: String { vision.map { type(of: $0).decoderPrefix } ?? "model." }
  private var embeddingName: String { textPrefix + "embed_tokens.weight" }
  private var headName: String { vision.map { type(of: $0).headName } ?? "lm_head.weight" }

  /// Nil where the tensor is no part of the architectures we know.
  private func canonicalName(_ name: String) -> String? {
    let head = "lm_head."
    guard let vision else {
      return name.hasPrefix("model.") || name.hasPrefix(head) ? name : nil
    }
    if name.hasPrefix(head) { return name == "lm_head.weight" ? headName : nil }
    let rest = name.hasPrefix("model.") ? String(name.dropFirst("model.".count)) : name
    if rest == headName || rest.hasPrefix(textPrefix) { return rest }
    let decoder = "language_model."
    guard rest.hasPrefix(decoder), textPrefix.hasPrefix(decoder) else {
      return vision.canonicalName(rest)
    }
    return textPrefix + rest.dropFirst(decoder.count)
  }

  /// A tied head is one tensor, which a checkpoint may have under either name.
  private func name(of spec: TensorSpec, tiedHead: Bool) -> String {
    if spec.isVision, let vision { return vision.name(of: spec) }
    switch spec.name {
    case "text.embedding":
      return tiedHead && embedding == nil && head != nil ? headName : embeddingName
    case "text.head.weight": return headName
    default: break
    }
    guard let tensor = LayerTensor(spec) else { return textPrefix + "norm.weight" }
    return textPrefix + tensor.name(layers: "layers", modules: Self.modules)
  }

  private static let modules = [
    "attention_norm": "input_layernorm", "mlp_norm": "post_attention_layernorm",
    "attention.query": "self_attn.q_proj", "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj", "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm", "attention.key_norm": "self_attn.k_norm",
    "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj", "mlp.down": "mlp.down_proj",
  ]

  private var embedding: Checkpoint.Location? { locations[embeddingName] }
  private var head: Checkpoint.Location? { locations[headName] }
}

extension TensorNames {
  /// Whether the checkpoint has a head of its own besides the embedding table it is tied to.
  ///
  /// `transformers` ties the two only if they are equal.
  func headDiffers(_ checkpoint: Checkpoint) throws(ConvertError) -> Bool {
    guard let embedding, let head else { return false }
    let (a, b) = (embedding.tensor, head.tensor)
    guard a.shape == b.shape, a.type == b.type else { return true }
    let size = 1 << 20
    let left = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
    let right = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 8)
    defer {
      left.deallocate()
      right.deallocate()
    }
    for offset in stride(from: 0, to: a.byteCount, by: size) {
      let range = ..<min(size, a.byteCount - offset)
      let x = UnsafeMutableRawBufferPointer(rebasing: left[range])
      let y = UnsafeMutableRawBufferPointer(rebasing: right[range])
      try checkpoint.read(embedding, into: x, at: offset)
      try checkpoint.read(head, into: y, at: offset)
      guard x.elementsEqual(y) else { return true }
    }
    return false
  }
}
