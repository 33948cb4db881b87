import PIOFormat

/// Views of the file's tensors by their place in the graph. Valid while the `ModelFile` lives.
struct TextWeights {
  let inverseFrequencies: UnsafePointer<Float>
  let embedding: Embedding
  let layers: [DecoderLayerWeights]
  let norm: UnsafePointer<Float>
  let head: Linear
}

struct DecoderLayerWeights {
  let attentionNorm: UnsafePointer<Float>
  let query: Linear
  let key: Linear
  let value: Linear
  /// Of each head in front of the rotation; nil: there is none.
  let queryNorm: HeadNorm?
  let keyNorm: HeadNorm?
  let output: Linear
  let mlpNorm: UnsafePointer<Float>
  let gate: Linear
  let up: Linear
  let down: Linear
}

struct LayerNormWeights {
  let weight: UnsafePointer<Float>
  let bias: UnsafePointer<Float>
}

/// The embedding table, by rows or, where it is the head too, in kernel layout.
struct Embedding {
  /// From the start of the file.
  let offset: Int
  let encoding: TensorEncoding
  let rows: Int
  let dim: Int
}

/// Finds tensors by name; a name that the list of tensors lacks is a mistake of ours.
struct Binding {
  struct Stored {
    let data: UnsafeRawPointer
    let offset: Int
    let encoding: TensorEncoding
    let shape: TensorShape
  }

  private let config: ModelConfig
  private var tensors: [String: Stored] = [:]

  init(_ file: borrowing ModelFile) {
    config = file.config
    let entries = file.tensors
    tensors.reserveCapacity(entries.count)
    for (index, entry) in entries.enumerated() {
      tensors[entry.spec.name] = Stored(
        data: file.data(index).baseAddress!, offset: entry.offset, encoding: entry.encoding,
        shape: entry.spec.shape)
    }
  }

  /// The two small tensors of every pass are copied to where the plan has room for them, so that the pages around them
  /// can come and go.
  func text(_ plan: ArenaLayout, _ arena: borrowing Arena) -> TextWeights {
    let embedding = tensor("text.embedding")
    return TextWeights(
      inverseFrequencies: copy(
        "text.rope.inverse_frequencies", to: arena.buffer(plan.inverseFrequencies)),
      embedding: Embedding(
        offset: embedding.offset, encoding: embedding.encoding, rows: embedding.shape.rows,
        dim: embedding.shape.columns),
      layers: (0..<config.text.layerCount).map(decoderLayer),
      norm: copy("text.norm.weight", to: arena.buffer(plan.norm)),
      head: matrix(config.text.tiedHead ? "text.embedding" : "text.head.weight", bias: nil))
  }

  private func decoderLayer(_ index: Int) -> DecoderLayerWeights {
    let name = "text.layers.\(index)"
    return DecoderLayerWeights(
      attentionNorm: small(name + ".attention_norm.weight"),
      query: linear(name + ".attention.query"),
      key: linear(name + ".attention.key"),
      value: linear(name + ".attention.value"),
      queryNorm: headNorm(name + ".attention.query_norm"),
      keyNorm: headNorm(name + ".attention.key_norm"),
      output: linear(name + ".attention.output"),
      mlpNorm: small(name + ".mlp_norm.weight"),
      gate: linear(name + ".mlp.gate"),
      up: linear(name + ".mlp.up"),
      down: linear(name + ".mlp.down"))
  }

  private func headNorm(_ name: String) -> HeadNorm? {
    guard config.text.queryKeyNorm else { return nil }
    return HeadNorm(weight: small(name + ".weight"), epsilon: config.text.rmsNormEpsilon)
  }

  func layerNorm(_ name: String) -> LayerNormWeights {
    LayerNormWeights(weight: small(name + ".weight"), bias: small(name + ".bias"))
  }

  /// `name.weight` with `name.bias` where the model has one.
  func linear(_ name: String) -> Linear {
    matrix(name + ".weight", bias: tensors[name + ".bias"])
  }

  func matrix(_ name: String, bias: Stored?) -> Linear {
    let weight = tensor(name)
    return Linear(
      data: weight.data, kind: weight.encoding.kind, group: weight.encoding.group,
      rows: weight.shape.rows, columns: weight.shape.columns,
      bias: bias?.data.assumingMemoryBound(to: Float.self))
  }

  private func copy(
    _ name: String, to target: UnsafeMutableBufferPointer<Float>
  ) -> UnsafePointer<Float> {
    target.baseAddress!.update(from: small(name), count: target.count)
    return UnsafePointer(target.baseAddress!)
  }

  func small(_ name: String) -> UnsafePointer<Float> {
    tensor(name).data.assumingMemoryBound(to: Float.self)
  }

  private func tensor(_ name: String) -> Stored {
    guard let tensor = tensors[name] else { preconditionFailure("no tensor \(name)") }
    return tensor
  }
}
