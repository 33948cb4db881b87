import PIOFormat

/// Qwen3-VL's vision encoder and connectors as an `mmproj` file.
struct Qwen3VLProjectorFile: SummedVisionSource {
  let config: VisionConfig
  private let reader: GGUFQwenReader
  private let deepstackLayers: [Int]

  init(_ file: GGUFFile) throws(ConvertError) {
    reader = try GGUFQwenReader(file, fewestTokens: 64)
    var qwen = Qwen3VLConfig()
    (qwen.tower, qwen.pixels) = (reader.tower, reader.pixels)
    qwen.positionsPerSide = try file.positionsPerSide()
    for (key, needed) in [("clip.use_gelu", true), ("clip.use_silu", false)]
    where try file.bool(key, default: false) != needed {
      throw file.failure(key, "is not \(needed), as Qwen3-VL has it")
    }
    // One flag a layer.
    let key = "clip.vision.is_deepstack_layers"
    let flags = try file.numbers(key, atMost: qwen.tower.layerCount) ?? []
    qwen.deepstackLayers = flags.indices.filter { flags[$0] != 0 }
    deepstackLayers = qwen.deepstackLayers
    config = .qwen3VL(qwen)
  }

  func name(of spec: TensorSpec) -> String {
    let parts = spec.name.split(separator: ".")
    switch spec.section {
    case .deepstack(let index):
      let module = ["norm": "norm", "linear1": "fc1", "linear2": "fc2"][String(parts[3])]!
      return "v.deepstack.\(deepstackLayers[index]).\(module).\(parts[4])"
    case .visionLayer(let layer) where QwenNames.indexInQKV(spec) != nil:
      return "v.blk.\(layer).attn_qkv.\(parts[parts.count - 1])"
    default: break
    }
    return spec.name == "vision.position_embedding"
      ? "v.position_embd.weight" : reader.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? {
    if spec.name == "vision.position_embedding" { return [spec.shape.rows, spec.shape.columns] }
    guard QwenNames.indexInQKV(spec) != nil else { return reader.shape(of: spec) }
    let dim = reader.tower.dim
    return spec.role == .small ? [3 * dim] : [3 * dim, dim]
  }

  func part(of spec: TensorSpec) -> SourcePart {
    QwenNames.indexInQKV(spec).map { .rows(index: $0, of: 3) } ?? .whole
  }

  func addedName(of spec: TensorSpec) -> String? { reader.addedName(of: spec) }
  func isIgnorable(_ name: String) -> Bool { false }
}

extension GGUFFile {
  /// Of the table of places, from its own shape.
  fileprivate func positionsPerSide() throws(ConvertError) -> Int {
    let name = "v.position_embd.weight"
    guard let table = tensor(name) else { throw .missingTensor(name: name) }
    let places = table.shape.first ?? 0
    let side = Int(Double(places).squareRoot())
    guard side >= 1, side * side == places else {
      throw failure("tensor \(name)", "has \(places) rows, which is no square")
    }
    return side
  }
}
