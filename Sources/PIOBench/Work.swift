import PIOFormat
import PIORuntime

/// What a computation has to do at least, counted from the model's numbers: to hold times against the machine.
public struct Work: Equatable, Sendable {
  /// Multiply-adds by weight matrices.
  public var weightMACs = 0
  /// Multiply-adds of queries by keys and of probabilities by values.
  public var attentionMACs = 0

  /// A prompt in an empty cache, of which layer `l` sees `rows[l]` rows, and its last row's logits.
  ///
  /// Behind the last layer only the last row is read: there, queries, the output and the MLP are one row's.
  public init(prefilling rows: [Int], _ text: TextConfig) {
    precondition(rows.count == text.layerCount, "Work: one row count for each layer")
    let queryDim = text.headCount * text.headDim
    let keyDim = text.kvHeadCount * text.headDim
    let keysAndValues = 2 * text.dim * keyDim
    let others = 2 * text.dim * queryDim + 3 * text.dim * text.hiddenDim
    for (layer, count) in rows.enumerated() {
      let isLast = layer + 1 == text.layerCount
      weightMACs += count * keysAndValues + (isLast ? 1 : count) * others
      attentionMACs += 2 * queryDim * (isLast ? count : count * (count + 1) / 2)
    }
    weightMACs += text.dim * text.vocabSize
  }

  /// One input of the tower, from its patches to the decoder's rows; every position attends to every other.
  public init(encodingAnImageFor textDim: Int, _ vision: VisionConfig) {
    let tower = vision.summary
    let rows = tower.rowCount
    let layer = tower.layerMACs
    let patchDim = 3 * tower.patchSize * tower.patchSize
    weightMACs =
      tower.patchCount * patchDim * tower.dim + tower.layerCount * layer
      + tower.connectorMACs(textDim: textDim)
    attentionMACs = tower.layerCount * 2 * rows * rows * tower.dim
  }

  /// Bytes of weights that one decode step reads: the decoder's layers and the head, each once.
  public static func decodeWeightByteCount(_ tensors: [TensorEntry], _ text: TextConfig) -> Int {
    tensors.reduce(0) { sum, tensor in
      switch tensor.spec.section {
      case .decoderLayer, .head: sum + tensor.byteCount
      case .embedding where text.tiedHead && tensor.spec.role == .matrix: sum + tensor.byteCount
      default: sum
      }
    }
  }

  /// Bytes of keys and values that `rows` cached positions take in all layers: what a decode step behind them reads.
  public static func cacheByteCount(rows: Int, _ text: TextConfig, kv: KVKind) -> Int {
    cacheByteCount(layerRows: rows * text.layerCount, text, kv: kv)
  }

  /// The same where layers differ: `layerRows` is the sum of their rows.
  public static func cacheByteCount(layerRows: Int, _ text: TextConfig, kv: KVKind) -> Int {
    layerRows * text.kvHeadCount * kv.byteCount(headDim: text.headDim)
  }
}
