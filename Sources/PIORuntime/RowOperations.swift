import CPIOKernels
import Glibc
import PIOFormat
import PIOThreads

/// Cosines and sines by row, `(rows, headDim / 2)`.
struct Rotations {
  let cosines: UnsafeMutablePointer<Float>
  let sines: UnsafeMutablePointer<Float>
  let headDim: Int
}

/// An RMSNorm of each head's numbers, with one weight `(headDim)` for all heads.
struct HeadNorm {
  let weight: UnsafePointer<Float>
  let epsilon: Float
}

/// What is done to each row by itself.
enum RowOperation {
  case rmsNorm(Rows, UnsafePointer<Float>, epsilon: Float, out: Rows)
  case layerNorm(Rows, LayerNormWeights, epsilon: Float, out: Rows)
  /// Fills row t's cosines and sines for where it stands behind position `first`.
  case angles(
    Rotations, frequencies: UnsafePointer<Float>, places: RowPlaces, first: Int32, factor: Float)
  /// Row t is turned by the angles of row `firstRow + t`, behind a norm of each head where there is one.
  case rotate(Rows, HeadNorm?, Rotations, firstRow: Int)
  case siluMul(gate: Rows, up: Rows)
  case activate(Rows, Activation)
  /// Row t of a table is added to row t.
  case addTable(Rows, UnsafePointer<Float>)
  /// The row of a table that `origins[t]` names is added to row t; none where it is negative.
  case addOrigins(Rows, table: Rows, origins: UnsafePointer<Int32>)
  /// Keys and values of row t go to row `first + t` of the cache.
  case store(keys: Rows, values: Rows, LayerCache, first: Int)
}

extension Operations {
  /// Does it to rows 0..<count, on all threads.
  func forEachRow(_ count: Int, _ operation: RowOperation) {
    let rowsPerTask = max(1, count / (pool.threadCount * 2))
    pool.run(
      (count + rowsPerTask - 1) / rowsPerTask,
      RowWork(kernels: kernels, operation: operation, count: count, rowsPerTask: rowsPerTask))
  }

  func rmsNorm(_ x: Rows, _ weight: UnsafePointer<Float>, epsilon: Float, into out: Rows) {
    forEachRow(x.count, .rmsNorm(x, weight, epsilon: epsilon, out: out))
  }

  func layerNorm(_ x: Rows, _ weights: LayerNormWeights, epsilon: Float, into out: Rows) {
    forEachRow(x.count, .layerNorm(x, weights, epsilon: epsilon, out: out))
  }

  func activate(_ x: Rows, _ activation: Activation) {
    forEachRow(x.count, .activate(x, activation))
  }
}

private struct RowWork: ParallelBody {
  let kernels: pio_kernels
  let operation: RowOperation
  let count: Int
  let rowsPerTask: Int

  func run(task: Int, thread: Int) {
    for row in (task * rowsPerTask)..<min(count, (task + 1) * rowsPerTask) { run(row) }
  }

  private func run(_ row: Int) {
    switch operation {
    case .rmsNorm(let x, let weight, let epsilon, let out):
      kernels.rms_norm(out[row], x[row], weight, epsilon, x.dim)
    case .layerNorm(let x, let weights, let epsilon, let out):
      kernels.layer_norm(out[row], x[row], weights.weight, weights.bias, epsilon, x.dim)
    case .angles(let rotations, let frequencies, let places, let first, let factor):
      fillAngles(row, rotations, frequencies, places, first, factor)
    case .rotate(let x, let norm, let rotations, let firstRow):
      let angles = (firstRow + row) * rotations.headDim / 2
      if let norm { normHeads(x[row], x.dim, norm, rotations.headDim) }
      kernels.rope(
        x[row], rotations.cosines + angles, rotations.sines + angles, x.dim / rotations.headDim,
        rotations.headDim)
    case .siluMul(let gate, let up): kernels.silu_mul(gate[row], up[row], gate.dim)
    case .activate(let x, let activation):
      kernels.activate(x[row], x.dim, Int32(activation.rawValue))
    case .addTable(let x, let table): kernels.add(x[row], table + row * x.dim, x.dim)
    case .addOrigins(let x, let table, let origins):
      if origins[row] >= 0 { kernels.add(x[row], table[Int(origins[row])], x.dim) }
    case .store(let keys, let values, let cache, let first):
      for head in 0..<cache.headCount {
        var view = cache.head(head)
        let offset = head * cache.headDim
        kernels.kv_store(&view, first + row, keys[row] + offset, values[row] + offset)
      }
    }
  }

  private func normHeads(
    _ row: UnsafeMutablePointer<Float>, _ dim: Int, _ norm: HeadNorm, _ headDim: Int
  ) {
    for start in stride(from: 0, to: dim, by: headDim) {
      kernels.rms_norm(row + start, row + start, norm.weight, norm.epsilon, headDim)
    }
  }

  private func fillAngles(
    _ row: Int, _ rotations: Rotations, _ frequencies: UnsafePointer<Float>, _ places: RowPlaces,
    _ first: Int32, _ factor: Float
  ) {
    let half = rotations.headDim / 2
    let position = Float(first + places.times[row])
    for i in 0..<half {
      let own = places.isOne ? position : Float(first + places.position(row, frequency: i))
      let angle = own * frequencies[i]
      rotations.cosines[row * half + i] = cosf(angle) * factor
      rotations.sines[row * half + i] = sinf(angle) * factor
    }
  }
}
