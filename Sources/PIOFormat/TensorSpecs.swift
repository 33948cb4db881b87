/// What a tensor is for: it decides which encodings it may have.
public enum TensorRole: Sendable, Equatable {
  /// Norms, biases, positions, frequencies: always f32, by rows.
  case small
  /// An embedding table: gathered by row, never multiplied.
  case embedding
  /// A weight matrix `(out, in)`.
  case matrix

  public func allows(_ encoding: TensorEncoding) -> Bool {
    let float = !encoding.kind.isQuantized && encoding.layout == .rows && encoding.group == 0
    let grouped = [32, 64, 128].contains(encoding.group)
    switch self {
    case .small: return encoding == .f32
    case .embedding:
      let layout: TensorLayout = encoding.kind == .int8 ? .rows : .blocks16
      return float || (encoding.kind.isQuantized && encoding.layout == layout && grouped)
    case .matrix:
      return float || (encoding.kind.isQuantized && encoding.layout == .blocks16 && grouped)
    }
  }
}

/// A run of tensors that starts on 64 KiB and is read, kept or dropped as one.
public enum TensorSection: Equatable, Hashable, Sendable {
  case embedding
  case visionEmbedding
  case visionLayer(Int)
  /// A connector behind one of the tower's layers, counted from 0.
  case deepstack(Int)
  case projector
  case decoderLayer(Int)
  case head
}

/// One tensor that a model of some configuration has.
public struct TensorSpec: Equatable, Sendable {
  public let name: String
  public let shape: TensorShape
  public let role: TensorRole
  public let section: TensorSection
}

/// Every tensor of a model, in file order: the one list that the converter, the reader, the plan,
/// the binding, `inspect` and the tests share.
///
/// `config` must be within `ModelConfig.validate()`'s bounds.
public func tensorSpecs(for config: ModelConfig) -> [TensorSpec] {
  var specs = SpecList()
  let text = config.text
  specs.section = .embedding
  specs.small("text.rope.inverse_frequencies", text.headDim / 2)
  specs.add(
    "text.embedding", text.vocabSize, text.dim, text.tiedHead ? .matrix : .embedding)
  config.vision?.addSpecs(to: &specs, outputDim: text.dim)
  for layer in 0..<text.layerCount { specs.decoderLayer(layer, text) }
  specs.section = .head
  specs.small("text.norm.weight", text.dim)
  if !text.tiedHead { specs.add("text.head.weight", text.vocabSize, text.dim, .matrix) }
  return specs.list
}

struct SpecList {
  var list: [TensorSpec] = []
  var section = TensorSection.embedding

  mutating func add(_ name: String, _ rows: Int, _ columns: Int, _ role: TensorRole) {
    list.append(
      TensorSpec(
        name: name, shape: TensorShape(rows: rows, columns: columns), role: role, section: section))
  }

  mutating func small(_ name: String, _ count: Int) { add(name, 1, count, .small) }

  mutating func linear(_ name: String, _ rows: Int, _ columns: Int, bias: Bool) {
    add(name + ".weight", rows, columns, .matrix)
    if bias { small(name + ".bias", rows) }
  }

  mutating func layerNorm(_ name: String, _ dim: Int) {
    small(name + ".weight", dim)
    small(name + ".bias", dim)
  }

  mutating func decoderLayer(_ layer: Int, _ text: TextConfig) {
    section = .decoderLayer(layer)
    let name = "text.layers.\(layer)"
    let queryDim = text.headCount * text.headDim
    let keyDim = text.kvHeadCount * text.headDim
    small(name + ".attention_norm.weight", text.dim)
    linear(name + ".attention.query", queryDim, text.dim, bias: text.queryKeyValueBias)
    linear(name + ".attention.key", keyDim, text.dim, bias: text.queryKeyValueBias)
    linear(name + ".attention.value", keyDim, text.dim, bias: text.queryKeyValueBias)
    if text.queryKeyNorm {
      small(name + ".attention.query_norm.weight", text.headDim)
      small(name + ".attention.key_norm.weight", text.headDim)
    }
    linear(name + ".attention.output", text.dim, queryDim, bias: text.attentionOutputBias)
    small(name + ".mlp_norm.weight", text.dim)
    linear(name + ".mlp.gate", text.hiddenDim, text.dim, bias: text.mlpBias)
    linear(name + ".mlp.up", text.hiddenDim, text.dim, bias: text.mlpBias)
    linear(name + ".mlp.down", text.dim, text.hiddenDim, bias: text.mlpBias)
  }
}
