import PIOBase
import PIOFormat

/// What the `mmproj` files of the Qwen-VL families have in common.
struct GGUFQwenReader {
  let tower: QwenTowerConfig
  let pixels: PixelRange
  private let swapsMLP: Bool

  /// `fewestTokens`: of an image, where the file does not say.
  init(_ file: GGUFFile, fewestTokens: Int = 4) throws(ConvertError) {
    var tower = QwenTowerConfig()
    tower.dim = try file.needed("clip.vision.embedding_length", in: dimRange)
    tower.hiddenDim = try file.needed("clip.vision.feed_forward_length", in: dimRange)
    tower.headCount = try file.needed("clip.vision.attention.head_count", in: 1...4096)
    tower.layerCount = try file.needed("clip.vision.block_count", in: 1...1024)
    tower.patchSize = try file.needed("clip.vision.patch_size", in: 1...256)
    tower.merge = try file.int("clip.vision.spatial_merge_size", in: 1...8) ?? 2
    if let epsilon = try file.number("clip.vision.attention.layer_norm_epsilon") {
      tower.normEpsilon = Float(epsilon)
    }
    self.tower = tower
    pixels = try file.pixelRange(tower, fewestTokens: fewestTokens)
    swapsMLP = file.swapsMLP(dim: tower.dim)
  }

  func name(of spec: TensorSpec) -> String {
    let last = spec.name.split(separator: ".").last!
    switch spec.name {
    case "vision.patch_embedding.weight", "vision.patch_embedding.bias":
      return "v.patch_embd.\(last)"
    case "projector.norm.weight", "projector.norm.bias": return "v.post_ln.\(last)"
    case "projector.linear1.weight", "projector.linear1.bias": return "mm.0.\(last)"
    case "projector.linear2.weight", "projector.linear2.bias": return "mm.2.\(last)"
    default: break
    }
    guard let tensor = LayerTensor(spec) else { return spec.name }
    let modules = VisionTransformerNames.gguf(swapsMLP: swapsMLP)
    return tensor.name(layers: "v.blk", modules: modules.merging(["mlp.gate": "ffn_gate"]) { $1 })
  }

  /// The frames of the patch convolution are two tensors.
  func addedName(of spec: TensorSpec) -> String? {
    spec.name == "vision.patch_embedding.weight" ? "v.patch_embd.weight.1" : nil
  }

  func shape(of spec: TensorSpec) -> [Int]? {
    spec.name == "vision.patch_embedding.weight"
      ? [tower.dim, 3, tower.patchSize, tower.patchSize] : nil
  }
}

extension GGUFFile {
  /// Older files do not say how many pixels: published checkpoints have 4 (Qwen3-VL: 64) to 16,384 tokens.
  fileprivate func pixelRange(
    _ tower: QwenTowerConfig, fewestTokens: Int
  ) throws(ConvertError) -> PixelRange {
    let steps = try normalization()
    var range = PixelRange()
    (range.mean, range.std) = (steps.mean, steps.std)
    let cell = tower.cellSide * tower.cellSide
    let counts = 1...(1 << 30)
    range.least = try int("clip.vision.image_min_pixels", in: counts) ?? fewestTokens * cell
    let key = "clip.vision.image_max_pixels"
    range.most = try int(key, in: counts) ?? 16_384 * cell
    guard range.most >= max(range.least, cell) else {
      throw failure(key, "is \(range.most), less than the least, \(max(range.least, cell))")
    }
    return range
  }
}

/// Qwen2-VL's vision encoder and connector as an `mmproj` file.
struct Qwen2VLProjectorFile: SummedVisionSource {
  let config: VisionConfig
  private let reader: GGUFQwenReader

  init(_ file: GGUFFile) throws(ConvertError) {
    reader = try GGUFQwenReader(file)
    var qwen = Qwen2VLConfig()
    (qwen.tower, qwen.pixels) = (reader.tower, reader.pixels)
    if try file.bool("clip.use_gelu", default: false) { qwen.activation = .gelu }
    config = .qwen2VL(qwen)
  }

  func name(of spec: TensorSpec) -> String { reader.name(of: spec) }
  func shape(of spec: TensorSpec) -> [Int]? { reader.shape(of: spec) }
  func addedName(of spec: TensorSpec) -> String? { reader.addedName(of: spec) }
  func isIgnorable(_ name: String) -> Bool { false }
}

/// Qwen2.5-VL's vision encoder and connector as an `mmproj` file.
struct Qwen25VLProjectorFile: SummedVisionSource {
  let config: VisionConfig
  private let reader: GGUFQwenReader

  init(_ file: GGUFFile) throws(ConvertError) {
    reader = try GGUFQwenReader(file)
    var qwen = Qwen25VLConfig()
    (qwen.tower, qwen.pixels) = (reader.tower, reader.pixels)
    let pixels = try file.int("clip.vision.window_size", in: 1...65_536) ?? 112
    qwen.window = max(1, pixels / qwen.tower.merge / qwen.tower.patchSize)
    // Every so many layers one attends to all.
    let key = "clip.vision.n_wa_pattern"
    let every = try file.needed(key, in: 1...1024)
    qwen.fullLayers = (0..<qwen.tower.layerCount).filter { ($0 + 1) % every == 0 }
    config = .qwen25VL(qwen)
  }

  func name(of spec: TensorSpec) -> String { reader.name(of: spec) }
  func shape(of spec: TensorSpec) -> [Int]? { reader.shape(of: spec) }
  func addedName(of spec: TensorSpec) -> String? { reader.addedName(of: spec) }
  func isIgnorable(_ name: String) -> Bool { false }
}
