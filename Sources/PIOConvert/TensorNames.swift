import PIOFormat

/// Finds our tensors among a checkpoint's, whichever generation of names it has.
///
/// Both are brought to one form: `text.`, `vision.`, `projector.` and `head.` in front of what
/// follows `language_model(.model).`, `vision_tower(.vision_model).`, `multi_modal_projector.` and
/// `lm_head.`, with or without a leading `model.`
struct TensorNames {
  /// By the form above.
  private var locations: [String: Checkpoint.Location] = [:]
  /// Names that are no part of the architectures we know.
  private var unknown: [String] = []
  /// Checkpoint tensors the model does not need, in order of their names.
  private(set) var ignored: [String] = []
  /// Where each of `tensorSpecs` comes from; nil for the frequencies, which are computed.
  private(set) var sources: [Checkpoint.Location?] = []

  init(_ checkpoint: Checkpoint, hasVision: Bool) throws(ConvertError) {
    for (name, location) in checkpoint.tensors.sorted(by: { $0.key < $1.key }) {
      guard let form = Self.form(of: name, hasVision: hasVision) else {
        unknown.append(name)
        continue
      }
      guard locations.updateValue(location, forKey: form) == nil else {
        throw .duplicateTensor(name: name)
      }
    }
  }

  /// The embedding table and the head, where the checkpoint has them.
  var embedding: Checkpoint.Location? { locations["text.embed_tokens.weight"] }
  var head: Checkpoint.Location? { locations["head.weight"] }

  /// Finds every tensor of `config`, checks its shape and type, and that no other is left that
  /// would change the result.
  mutating func bind(
    _ specs: [TensorSpec], _ config: CheckpointConfig
  ) throws(ConvertError) {
    var used: Set<String> = []
    for spec in specs {
      guard spec.name != "text.rope.inverse_frequencies" else {
        sources.append(nil)
        continue
      }
      var form = Self.form(of: spec)
      if spec.name == "text.embedding", embedding == nil, config.text.tiedHead, head != nil {
        form = "head.weight"
      }
      guard let location = locations[form] else {
        throw .missingTensor(name: Self.publicName(form, hasVision: config.vision != nil))
      }
      try Self.check(location.tensor, spec, config)
      sources.append(location)
      used.insert(form)
    }
    if config.text.tiedHead { used.formUnion(["head.weight", "text.embed_tokens.weight"]) }
    for (form, location) in locations.sorted(by: { $0.key < $1.key }) where !used.contains(form) {
      if Self.isIgnorable(form, config) {
        ignored.append(location.tensor.name)
      } else {
        unknown.append(location.tensor.name)
      }
    }
    if let first = unknown.min() { throw .unknownTensors(first: first, count: unknown.count) }
    ignored.sort()
  }

  private static func check(
    _ tensor: SourceTensor, _ spec: TensorSpec, _ config: CheckpointConfig
  ) throws(ConvertError) {
    let shape = spec.shape
    var needed = [shape.rows, shape.columns]
    if spec.name == "vision.patch_embedding.weight", let tower = config.vision?.clip {
      needed = [tower.dim, 3, tower.patchSize, tower.patchSize]
    } else if spec.role == .small, spec.name != "vision.position_embedding" {
      needed = [shape.columns]
    }
    guard tensor.shape == needed else {
      throw .wrongShape(tensor: tensor.name, needed: needed, found: tensor.shape)
    }
    if case .other(let type) = tensor.type {
      throw .unsupportedType(tensor: tensor.name, type: type)
    }
  }

  /// Tensors that a checkpoint may have and that change nothing: vision layers behind the feature
  /// layer, the norm behind them, and tables that are computed.
  private static func isIgnorable(_ form: String, _ config: CheckpointConfig) -> Bool {
    if form.hasPrefix("vision.post_layernorm.") || form == "vision.embeddings.position_ids" {
      return true
    }
    if form.hasPrefix("text."), form.hasSuffix("rotary_emb.inv_freq") { return true }
    let layers = "vision.encoder.layers."
    guard form.hasPrefix(layers), let tower = config.vision?.clip,
      let layer = Int(form.dropFirst(layers.count).prefix { $0 != "." })
    else { return false }
    return (tower.layerCount..<config.visionLayerCount).contains(layer)
  }

  private static func form(of name: String, hasVision: Bool) -> String? {
    func replacing(_ prefixes: [String], _ part: String, in name: Substring) -> String? {
      for prefix in prefixes where name.hasPrefix(prefix) {
        return part + name.dropFirst(prefix.count)
      }
      return nil
    }
    var rest = name[...]
    if let head = replacing(["lm_head."], "head.", in: rest) { return head }
    guard hasVision else { return replacing(["model."], "text.", in: rest) }
    if rest.hasPrefix("model.") { rest = rest.dropFirst("model.".count) }
    if rest == "image_newline" { return "newline" }
    return replacing(["language_model.lm_head."], "head.", in: rest)
      ?? replacing(["language_model.model.", "language_model."], "text.", in: rest)
      ?? replacing(["vision_tower.vision_model.", "vision_tower."], "vision.", in: rest)
      ?? replacing(["multi_modal_projector."], "projector.", in: rest)
  }

  /// The name to report for a tensor that is not there.
  private static func publicName(_ form: String, hasVision: Bool) -> String {
    if form == "newline" { return "image_newline" }
    let dot = form.firstIndex(of: ".") ?? form.endIndex
    let prefix =
      switch form[..<dot] {
      case "text": hasVision ? "language_model.model" : "model"
      case "vision": "vision_tower.vision_model"
      case "projector": "multi_modal_projector"
      default: hasVision ? "language_model.lm_head" : "lm_head"
      }
    return prefix + form[dot...]
  }

  private static func form(of spec: TensorSpec) -> String {
    switch spec.name {
    case "text.embedding": return "text.embed_tokens.weight"
    case "text.norm.weight": return spec.name
    case "projector.newline": return "newline"
    case "text.head.weight": return "head.weight"
    case "vision.patch_embedding.weight": return "vision.embeddings.patch_embedding.weight"
    case "vision.class_embedding": return "vision.embeddings.class_embedding"
    case "vision.position_embedding": return "vision.embeddings.position_embedding.weight"
    default: break
    }
    let parts = spec.name.split(separator: ".").map(String.init)
    if parts[0] == "projector" {
      return "projector.linear_\(parts[1].suffix(1)).\(parts[2])"
    }
    if parts[1] == "pre_norm" { return "vision.pre_layrnorm.\(parts[2])" }
    let isText = parts[0] == "text"
    let module =
      switch parts[3...].dropLast().joined(separator: ".") {
      case "attention_norm": isText ? "input_layernorm" : "layer_norm1"
      case "mlp_norm": isText ? "post_attention_layernorm" : "layer_norm2"
      case "attention.query": "self_attn.q_proj"
      case "attention.key": "self_attn.k_proj"
      case "attention.value": "self_attn.v_proj"
      case "attention.output": isText ? "self_attn.o_proj" : "self_attn.out_proj"
      case "mlp.gate": "mlp.gate_proj"
      case "mlp.up": isText ? "mlp.up_proj" : "mlp.fc1"
      default: isText ? "mlp.down_proj" : "mlp.fc2"
      }
    let layers = isText ? "text.layers" : "vision.encoder.layers"
    return "\(layers).\(parts[2]).\(module).\(parts[parts.count - 1])"
  }
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

extension VisionConfig {
  /// The tower that all families so far have.
  var clip: CLIPConfig {
    switch self {
    case .llava(let llava): llava.tower
    case .llavaNext(let next): next.tower
    }
  }
}
