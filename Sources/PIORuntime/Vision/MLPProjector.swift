import PIOFormat

/// Two linear layers with an activation between them: features of a tower in, rows of the decoder out.
///
/// Source: Liu et al. 2023, arXiv:2310.03744.
struct MLPProjector {
  private let config: ProjectorConfig
  private let weights: ProjectorWeights
  private let operations: Operations
  private let chunkRows: Int
  private let inner: Rows

  /// `inner`: the tower's buffer of that name, at least `(chunkRows, config.hiddenDim)`.
  init(
    _ config: ProjectorConfig, _ weights: ProjectorWeights, operations: Operations,
    inner: Region<Float>, chunkRows: Int, arena: borrowing Arena
  ) {
    self.config = config
    self.weights = weights
    self.operations = operations
    self.chunkRows = chunkRows
    self.inner = Rows(base: arena.pointer(inner), count: chunkRows, dim: inner.count / chunkRows)
  }

  /// Shapes: `features` is `(n, dim of the tower)`, `out` `(n, dim of the decoder)`. Allocates nothing.
  func project(_ features: Rows, into out: Rows) {
    forEachChunk(out.count, chunkRows) { rows in
      let inner = inner.reshaped(count: rows.count, dim: config.hiddenDim)
      var input = LinearInput(features.rows(rows))
      operations.linear(&input, weights.first, inner)
      operations.activate(inner, config.activation)
      var activated = LinearInput(inner)
      operations.linear(&activated, weights.second, out.rows(rows))
    }
  }
}

struct ProjectorWeights {
  let first: Linear
  let second: Linear
}

extension Binding {
  func projector() -> ProjectorWeights {
    ProjectorWeights(first: linear("projector.linear1"), second: linear("projector.linear2"))
  }
}
