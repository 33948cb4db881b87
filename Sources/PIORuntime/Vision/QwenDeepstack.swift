import PIOFormat

/// A connector behind one of a tower's layers: the patches of a token together through a norm, then through two matrices
/// with GELU between them.
struct QwenDeepstackMerger {
  /// Of the tower, from 0.
  let layer: Int
  private let norm: LayerNormWeights
  private let first: Linear
  private let second: Linear
  private let operations: Operations
  private let mergedDim: Int
  private let epsilon: Float

  init(_ index: Int, behind layer: Int, _ config: QwenTowerConfig, _ parts: VisionParts) {
    let name = "vision.deepstack.\(index)"
    self.layer = layer
    norm = parts.binding.layerNorm(name + ".norm")
    first = parts.binding.linear(name + ".linear1")
    second = parts.binding.linear(name + ".linear2")
    operations = parts.operations
    (mergedDim, epsilon) = (config.mergedDim, config.normEpsilon)
  }

  /// `x`: the patches, whose blocks are in the image's order; it stays as it is. `out`: a row for each token.
  func project(_ x: Rows, chunkRows: Int, scratch: Rows, normed: Rows, into out: Rows) {
    let cells = x.reshaped(count: out.count, dim: mergedDim)
    forEachChunk(out.count, chunkRows) { rows in
      let normed = normed.reshaped(count: rows.count, dim: mergedDim)
      operations.layerNorm(cells.rows(rows), norm, epsilon: epsilon, into: normed)
      let inner = scratch.reshaped(count: rows.count, dim: mergedDim)
      var input = LinearInput(normed)
      operations.linear(&input, first, inner)
      operations.activate(inner, .gelu)
      var activated = LinearInput(inner)
      operations.linear(&activated, second, out.rows(rows))
    }
  }
}

/// A square table of learned places, stretched over an image's patches: its first line on their first, its last on their
/// last, and between two of its lines and columns as bilinear interpolation has it.
struct LearnedPlaces {
  /// `(side², dim)`, line by line.
  private let table: UnsafePointer<Float>
  private let side: Int
  private let dim: Int

  init(_ config: Qwen3VLConfig, _ parts: VisionParts) {
    table = parts.binding.small("vision.position_embedding")
    (side, dim) = (config.positionsPerSide, config.tower.dim)
  }

  func add(
    line: Int, of lines: Int, column: Int, of columns: Int, to row: UnsafeMutablePointer<Float>
  ) {
    let (y, x) = (taps(line, of: lines), taps(column, of: columns))
    add(y.first, x.first, (1 - y.weight) * (1 - x.weight), to: row)
    add(y.first, x.second, (1 - y.weight) * x.weight, to: row)
    add(y.second, x.first, y.weight * (1 - x.weight), to: row)
    add(y.second, x.second, y.weight * x.weight, to: row)
  }

  /// The two lines that place `index` of `count` lies between, and the second one's weight.
  private func taps(_ index: Int, of count: Int) -> (first: Int, second: Int, weight: Float) {
    let place = Float(index) * Float(side - 1) / Float(max(1, count - 1))
    let first = min(Int(place), side - 1)
    return (first, min(first + 1, side - 1), place - Float(first))
  }

  private func add(
    _ line: Int, _ column: Int, _ weight: Float, to row: UnsafeMutablePointer<Float>
  ) {
    let place = table + (line * side + column) * dim
    for i in 0..<dim { row[i] += weight * place[i] }
  }
}
