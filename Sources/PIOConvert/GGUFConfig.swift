import PIOBase
import Glibc
import PIOFormat

/// The decoder's numbers, from the metadata of a GGUF file of architecture `llama`, `qwen2vl` or `qwen3vl`.
///
/// Defaults are those of llama.cpp, but for the base of Qwen's rotation, which is the published models'. What would change the result and does not run here is refused
/// by the name of its key.
extension GGUFFile {
  func textConfig() throws(ConvertError) -> TextConfig {
    let prefix = try architecture().rawValue + "."
    try checkDecoder(prefix)
    var text = TextConfig()
    let dims = 1...(1 << 20)
    text.dim = try needed(prefix + "embedding_length", in: dims)
    text.hiddenDim = try needed(prefix + "feed_forward_length", in: dims)
    text.layerCount = try needed(prefix + "block_count", in: 1...1024)
    text.headCount = try needed(prefix + "attention.head_count", in: 1...4096)
    text.kvHeadCount =
      try int(prefix + "attention.head_count_kv", in: 1...text.headCount) ?? text.headCount
    guard text.headCount % text.kvHeadCount == 0 else {
      throw failure(
        prefix + "attention.head_count_kv",
        "\(text.kvHeadCount) does not divide \(prefix)attention.head_count, \(text.headCount)")
    }
    try readHeadDim(&text, prefix)
    text.maxPositions = try needed(prefix + "context_length", in: 1...(1 << 24))
    text.rmsNormEpsilon = Float(try number(prefix + "attention.layer_norm_rms_epsilon") ?? 1e-5)
    guard let table = tensor("token_embd.weight") else {
      throw .missingTensor(name: "token_embd.weight")
    }
    guard table.shape.count == 2, table.shape[0] <= 1 << 22 else {
      throw .wrongShape(tensor: table.name, needed: [1 << 22, text.dim], found: table.shape)
    }
    text.vocabSize = table.shape[0]
    text.tiedHead = tensor("output.weight") == nil
    text.queryKeyValueBias = tensor("blk.0.attn_q.bias") != nil
    text.attentionOutputBias = tensor("blk.0.attn_output.bias") != nil
    text.mlpBias = tensor("blk.0.ffn_up.bias") != nil
    try readQwen(&text)
    return text
  }

  func tensor(_ name: String) -> GGUFTensor? { header.tensors.first { $0.name == name } }

  /// What kind of decoder the file holds.
  func architecture() throws(ConvertError) -> GGUFArchitecture {
    let name = try text("general.architecture") ?? "missing"
    guard let known = GGUFArchitecture(rawValue: name) else {
      throw failure(
        "general.architecture", "'\(name.shortened)' is not supported (llama, qwen2vl, qwen3vl are)"
      )
    }
    return known
  }

  /// What a Qwen decoder has beside a Llama's parts.
  private func readQwen(_ text: inout TextConfig) throws(ConvertError) {
    switch try architecture() {
    case .llama: return
    case .qwen2VL: text.ropeSections = try ropeSections(text, usual: [16, 24, 24])
    case .qwen3VL:
      text.ropeSections = try ropeSections(text, usual: [24, 20, 20])
      (text.ropeInterleaves, text.queryKeyNorm) = (true, true)
    }
  }

  /// Some files hold fewer than three: then they are those of every published model.
  private func ropeSections(_ text: TextConfig, usual: [Int]) throws(ConvertError) -> [Int] {
    let key = try architecture().rawValue + ".rope.dimension_sections"
    let numbers = try numbers(key, atMost: 4) ?? []
    let counts = 0...Double(text.headDim / 2)
    let sections =
      numbers.count < 3
      ? usual : numbers[..<3].map { counts.contains($0) ? Int(exactly: $0) ?? -1 : -1 }
    guard sections.reduce(0, +) == text.headDim / 2, sections.allSatisfy({ $0 >= 0 }) else {
      throw failure(key, "does not add up to half of a head, \(text.headDim / 2)")
    }
    return sections
  }

  private func checkDecoder(_ prefix: String) throws(ConvertError) {
    if let parts = try int("split.count", in: 0...65_536), parts > 1 {
      throw failure(
        "split.count", "is \(parts): join the parts with llama-gguf-split --merge first")
    }
    if let experts = try int(prefix + "expert_count", in: 0...65_536), experts > 0 {
      throw failure(prefix + "expert_count", "is \(experts): mixtures of experts are not supported")
    }
    for key in [
      "logit_scale", "embedding_scale", "residual_scale", "attention.scale",
      "attention.sliding_window", "attention.clamp_kqv", "use_parallel_residual",
    ] where has(prefix + key) {
      throw failure(prefix + key, "is not supported")
    }
  }

  private func readHeadDim(
    _ text: inout TextConfig, _ prefix: String
  ) throws(ConvertError) {
    let sizes = 2...4096
    let even = text.dim / text.headCount
    text.headDim = try int(prefix + "attention.key_length", in: sizes) ?? even
    let value = try int(prefix + "attention.value_length", in: sizes) ?? text.headDim
    guard value == text.headDim else {
      throw failure(
        prefix + "attention.value_length",
        "is \(value), not \(prefix)attention.key_length, \(text.headDim)")
    }
    guard sizes.contains(text.headDim), text.headDim % 2 == 0 else {
      throw failure(
        prefix + "attention.key_length", "is \(text.headDim), not an even number in 2…4096")
    }
    let rotated = try int(prefix + "rope.dimension_count", in: 0...4096) ?? text.headDim
    guard rotated == text.headDim else {
      throw failure(
        prefix + "rope.dimension_count",
        "\(rotated) is not supported: it must be the head's, \(text.headDim)")
    }
  }

  /// The rotary frequencies: those of the metadata's rule, divided by the factors of the tensor
  /// `rope_freqs.weight`, where the file has one (Llama 3.1's scaling, worked out).
  func rotary(_ text: TextConfig) throws(ConvertError) -> RotaryFrequencies {
    let prefix = try architecture().rawValue + "."
    let usual = try architecture().usualTheta
    var members: [String: JSONValue] = [
      "rope_theta": .number(try number(prefix + "rope.freq_base") ?? usual)
    ]
    if let scaling = try ropeScaling(prefix) { members["rope_scaling"] = .object(scaling) }
    var rope = try RotaryFrequencies(
      ConfigObject(file: name, path: prefix, members: members), headDim: text.headDim,
      maxPositions: text.maxPositions)
    guard let tensor = tensor("rope_freqs.weight") else { return rope }
    let shape = TensorShape(rows: 1, columns: text.headDim / 2)
    guard tensor.shape == [shape.columns] else {
      throw .wrongShape(tensor: tensor.name, needed: [shape.columns], found: tensor.shape)
    }
    let reader = RowReader(try weights(tensor), shape: shape)
    try reader.read(firstRow: 0, 1)
    var factors = [Float](repeating: 1, count: shape.columns)
    factors.withUnsafeMutableBufferPointer { reader.row(0, into: $0.baseAddress!) }
    for (i, factor) in factors.enumerated() {
      guard factor.isFinite, factor > 0 else {
        throw .notFinite(tensor: tensor.name, row: 0, column: i)
      }
      rope.frequencies[i] /= factor
    }
    rope.scaling = .llama3
    return rope
  }

  private func ropeScaling(_ prefix: String) throws(ConvertError) -> [String: JSONValue]? {
    let key = prefix + "rope.scaling"
    let legacy = try number(prefix + "rope.scale_linear")
    let factor = try number("\(key).factor") ?? legacy ?? 1
    switch try text("\(key).type") ?? (legacy == nil ? "none" : "linear") {
    case "none": return nil
    case "linear":
      return factor == 1 ? nil : ["rope_type": .string("linear"), "factor": .number(factor)]
    case "yarn":
      var members: [String: JSONValue] = ["rope_type": .string("yarn"), "factor": .number(factor)]
      if let original = try number("\(key).original_context_length") {
        members["original_max_position_embeddings"] = .number(original)
      }
      if let attention = try number("\(key).attn_factor"), attention != 1 {
        let standard = factor <= 1 ? 1 : 0.1 * log(factor) + 1
        members["attention_factor"] = .number(attention * standard)
      }
      return members
    case let type: throw failure("\(key).type", "'\(type.shortened)' is not supported")
    }
  }
}

/// `general.architecture` of a decoder.
enum GGUFArchitecture: String {
  case llama
  case qwen2VL = "qwen2vl"
  case qwen3VL = "qwen3vl"

  /// The base of the rotary frequencies where a file says none.
  var usualTheta: Double {
    switch self {
    case .llama: 10_000
    case .qwen2VL: 1_000_000
    case .qwen3VL: 5_000_000
    }
  }
}
