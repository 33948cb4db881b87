import PIOBase
import PIOFormat

/// What the checkpoints of the Qwen-VL families have in common.
protocol QwenCheckpoint: CheckpointVision {
  var tower: QwenTowerConfig { get }
  /// Of the patch convolution.
  var frames: Int { get }
}

extension QwenCheckpoint {
  static var defaultImageTokenID: Int { 151_655 }
  static var decoderPrefix: String { "language_model." }
  static var headName: String { "lm_head.weight" }

  func canonicalName(_ name: String) -> String? { QwenNames.canonical(name) }
  func shape(of spec: TensorSpec) -> [Int]? { QwenNames.shape(of: spec, tower, frames: frames) }
  func part(of spec: TensorSpec) -> SourcePart { QwenNames.part(of: spec, frames: frames) }
  func isIgnorable(_ name: String) -> Bool { false }
}

/// How they name and shape their tensors.
enum QwenNames {
  private static let modules = [
    "attention_norm": "norm1", "mlp_norm": "norm2", "attention.query": "attn.qkv",
    "attention.key": "attn.qkv", "attention.value": "attn.qkv", "attention.output": "attn.proj",
  ]

  /// The two generations of files: `visual.` and `model.layers.`, or all behind `model.` and the decoder behind
  /// `language_model.`; a leading `model.` is gone.
  static func canonical(_ name: String) -> String? {
    if name.hasPrefix("visual.") { return name }
    let decoder = ["layers.", "embed_tokens.", "norm."]
    return decoder.contains { name.hasPrefix($0) } ? "language_model." + name : nil
  }

  /// What the older families call the parts of a merger.
  static let merger = ["norm": "ln_q", "linear1": "mlp.0", "linear2": "mlp.2"]

  /// `mlp`, `merger`: what the family calls the modules of an MLP and of a merger.
  static func checkpoint(
    _ spec: TensorSpec, mlp: [String: String], merger: [String: String] = QwenNames.merger
  ) -> String {
    let parts = spec.name.split(separator: ".")
    let last = parts[parts.count - 1]
    if case .projector = spec.section {
      return "visual.merger.\(merger[String(parts[1])]!).\(last)"
    }
    if case .deepstack(let index) = spec.section {
      return "visual.deepstack_merger_list.\(index).\(merger[String(parts[3])]!).\(last)"
    }
    switch spec.name {
    case "vision.patch_embedding.weight", "vision.patch_embedding.bias":
      return "visual.patch_embed.proj.\(last)"
    case "vision.position_embedding": return "visual.pos_embed.weight"
    default: break
    }
    guard let tensor = LayerTensor(spec) else { return spec.name }
    return tensor.name(layers: "visual.blocks", modules: modules.merging(mlp) { $1 })
  }

  /// Queries, keys and values are one matrix, in this order; the patch embedding is a convolution in time.
  static func part(of spec: TensorSpec, frames: Int) -> SourcePart {
    if spec.name == "vision.patch_embedding.weight" { return .summedFrames(frames) }
    guard let index = indexInQKV(spec) else { return .whole }
    return .rows(index: index, of: 3)
  }

  static func shape(of spec: TensorSpec, _ tower: QwenTowerConfig, frames: Int) -> [Int]? {
    if spec.name == "vision.patch_embedding.weight" {
      return [tower.dim, 3, frames, tower.patchSize, tower.patchSize]
    }
    // Also where it has one row, which elsewhere is a vector.
    if spec.name == "vision.position_embedding" { return [spec.shape.rows, spec.shape.columns] }
    guard indexInQKV(spec) != nil else { return nil }
    return spec.role == .small ? [3 * tower.dim] : [3 * tower.dim, tower.dim]
  }

  static func indexInQKV(_ spec: TensorSpec) -> Int? {
    guard case .visionLayer = spec.section, let tensor = LayerTensor(spec) else { return nil }
    return ["attention.query", "attention.key", "attention.value"].firstIndex(of: tensor.module)
  }
}

// MARK: Configuration

extension ConfigObject {
  /// The vision half's configuration.
  func qwenVision() throws(ConvertError) -> ConfigObject {
    let vision =
      try object("vision_config")
      ?? ConfigObject(file: file, path: "vision_config.", members: [:])
    try vision.refuseQuantized()
    return vision
  }

  /// All but the widths, which each family names in its own way.
  func readQwenTower(
    _ tower: inout QwenTowerConfig, depth: Int = 32, patchSize: Int = 14
  ) throws(ConvertError) {
    for key in ["in_channels", "in_chans"] where try int(key, default: 3) != 3 {
      throw unsupported(key)
    }
    tower.layerCount = try count("depth", default: depth, in: 1...1024)
    tower.headCount = try count("num_heads", default: 16, in: 1...4096)
    tower.patchSize = try count("patch_size", default: patchSize, in: 1...256)
    tower.merge = try count("spatial_merge_size", default: 2, in: 1...8)
    guard tower.dim % tower.headCount == 0, tower.dim / tower.headCount % 4 == 0 else {
      throw failure(
        "num_heads", "\(tower.headCount) does not divide the width, \(tower.dim), into heads of 4n")
    }
  }

  func qwenFrames() throws(ConvertError) -> Int {
    try count("temporal_patch_size", default: 2, in: 1...16)
  }

  /// A Qwen2 decoder, whose keys stand in `text_config` or, in published files, at the top.
  ///
  /// `usual`: what a key is that nobody gives, beside what Llama has.
  func qwenTextConfig(
    usual: [String: JSONValue] = ["rope_theta": .integer(1_000_000)]
  ) throws(ConvertError) -> (TextConfig, RotaryFrequencies) {
    let inner = try object("text_config") ?? self
    try inner.refuseQuantized()
    guard try !inner.bool("use_sliding_window", default: false) else {
      throw inner.unsupported("use_sliding_window")
    }
    try inner.checkLayerTypes()
    let key = try inner.object("rope_scaling") != nil ? "rope_scaling" : "rope_parameters"
    var found = try inner.object(key)
    if found == nil { found = try object(key) }
    guard let rope = found else { throw inner.failure(key, "is missing") }
    var members = usual.merging(inner.members) { $1 }
    // None slides; the rule of the frequencies is the plain one.
    for gone in ["sliding_window", "layer_types", "max_window_layers", "rope_scaling"] {
      members[gone] = nil
    }
    members["rope_parameters"] = .object(
      try rope.withoutSections(theta: inner["rope_theta"] ?? usual["rope_theta"]!))
    let plain = ConfigObject(file: file, path: inner.path, members: members)
    var (text, frequencies) = try plain.textConfig(.llama)
    text.queryKeyValueBias = true
    text.ropeSections = try rope.sections(headDim: text.headDim, usual: usual["mrope_section"])
    text.tiedHead = try bool("tie_word_embeddings", default: text.tiedHead)
    return (text, frequencies)
  }

  private func checkLayerTypes() throws(ConvertError) {
    guard let types = self["layer_types"] else { return }
    guard case .array(let list) = types,
      list.allSatisfy({ $0 == .string("full_attention") })
    else { throw unsupported("layer_types") }
  }

  /// The rotation's parameters as those of one position; `theta`: what stands beside them in older files.
  private func withoutSections(theta: JSONValue) throws(ConvertError) -> [String: JSONValue] {
    for key in ["type", "rope_type"] {
      let type = try string(key, default: "mrope")
      guard ["mrope", "default"].contains(type) else { throw unsupported(key) }
    }
    return [
      "rope_type": .string("default"),
      "rope_theta": self["rope_theta"] ?? theta,
    ]
  }

  private func sections(headDim: Int, usual: JSONValue?) throws(ConvertError) -> [Int] {
    let key = "mrope_section"
    guard case .array(let list)? = self[key] ?? usual, list.count == 3 else {
      throw failure(key, "is not three whole numbers")
    }
    var sections: [Int] = []
    for element in list {
      guard case .integer(let count) = element, (0...headDim / 2).contains(count) else {
        throw failure(key, "is not three whole numbers of 0…\(headDim / 2)")
      }
      sections.append(count)
    }
    guard sections.reduce(0, +) == headDim / 2 else {
      throw failure(key, "does not add up to half of a head, \(headDim / 2)")
    }
    return sections
  }
}

// MARK: Image processor

extension ConfigObject {
  /// How the image processor resizes an image: keys of `Qwen2VLImageProcessor`.
  func pixelRange(_ tower: QwenTowerConfig, frames: Int) throws(ConvertError) -> PixelRange {
    let names = ["", "Fast", "Pil"].map { "Qwen2VLImageProcessor" + $0 }
    guard names.contains(try string("image_processor_type", default: names[0])) else {
      throw unsupported("image_processor_type")
    }
    guard try bool("do_resize", default: true) else { throw unsupported("do_resize") }
    for (key, needed, usual) in [
      ("patch_size", tower.patchSize, 14), ("merge_size", tower.merge, 2),
      ("temporal_patch_size", frames, 2),
    ] {
      let found = try int(key, default: usual)
      guard found == needed else {
        throw failure(key, "is \(found), not the encoder's, \(needed)")
      }
    }
    var range = PixelRange()
    let size = try object("size") ?? ConfigObject(file: file, path: path + "size.", members: [:])
    for key in ["height", "width"] where size[key] != nil { throw size.unsupported(key) }
    // Counts of pixels in this family, whatever the names say.
    let counts = 1...(1 << 30)
    range.least = try count(
      "min_pixels", default: try size.count("shortest_edge", default: 56 * 56, in: counts),
      in: counts)
    range.most = try count(
      "max_pixels", default: try size.count("longest_edge", default: 28 * 28 * 1280, in: counts),
      in: counts)
    guard range.most >= max(range.least, tower.cellSide * tower.cellSide) else {
      throw failure("size", "leaves no size between \(range.least) and \(range.most) pixels")
    }
    var steps = ImagePreprocessing()
    try readNormalization(&steps)
    range.filter = try filter(default: .bicubic)
    (range.rescaleFactor, range.mean, range.std) = (steps.rescaleFactor, steps.mean, steps.std)
    return range
  }
}
