import CPIOKernels
import Glibc
import PIOThreads

/// What a part of the head has added up for one proxy row.
struct HeadMaximum {
  /// The greatest logit so far, and its row; NaN where one is no number.
  var logit = -Float.infinity
  var row: Int32 = -1
  /// `Σ exp(l_v − logit)` over the other rows.
  var others: Float = 0
}

/// The derivative of the proxy rows' loss in front of the head, in one reading of the head's weights.
///
/// With x a proxy row behind the final norm, `l_v = ⟨W_v, x⟩`, m the first row of the greatest logit and P proxy rows:
///
///     dx = (G − S W_m) / (P (1 + S)),   S = Σ exp(l_v − l_m),   G = Σ exp(l_v − l_m) W_v   (over v ≠ m)
///
/// which is `Σ (softmax(l)_v − [v = m]) W_v / P` without the digits that 1 − softmax(l)_m would lose. The head is to it
/// what keys and values are to attention: a chunk of rows is multiplied, exponentiated and multiplied back while it is
/// in the cache. Rows are shared by a fixed number of parts, each with sums and a maximum of its own that are put together
/// at the end, so that neither the threads nor what is streamed changes a bit.
/// Source: the online softmax of Milakov & Gimelshein 2018, arXiv:1805.02867.
struct HeadLoss {
  let operations: Operations
  let head: Linear
  /// `(2 · part · proxy, dim)`: G of every part, then W_m of every part.
  private let sums: Rows
  /// `(part · proxy, maxChunkRows)`.
  private let logits: Rows
  private let maxima: UnsafeMutablePointer<HeadMaximum>

  /// Accumulators that the head's rows are shared among: threads beyond that number have nothing to do.
  static let partCount = 8
  /// Rows of the head that are done at a time: a stripe of the transposed product, up to several.
  static let maxChunkRows = 256
  static let stripeRows = 64
  private static let chunkBytes = 384 << 10

  init(operations: Operations, head: Linear, regions: SaliencyRegions, arena: borrowing Arena) {
    self.operations = operations
    self.head = head
    let pairs = Self.partCount * maxProxyRows
    sums = Rows(base: arena.pointer(regions.headSums), count: 2 * pairs, dim: head.columns)
    logits = Rows(base: arena.pointer(regions.headLogits), count: pairs, dim: Self.maxChunkRows)
    maxima = arena.pointer(regions.headMaxima)
  }

  /// Before the first rows.
  func begin() {
    maxima.update(repeating: HeadMaximum(), count: Self.partCount * maxProxyRows)
  }

  /// Adds the head's rows `range`, for the same `input` at every call.
  func add(_ range: Range<Int>, _ input: inout LinearInput) {
    precondition(input.rows.dim == head.columns, "head loss: widths differ")
    precondition(input.rows.count <= maxProxyRows, "head loss: too many rows")
    operations.prepare(&input, for: head)
    operations.pool.run(
      Self.partCount, HeadPass(loss: self, input: input.rows, range: range, chunkRows: chunkRows))
  }

  /// Writes the derivatives of `out.count` proxy rows.
  func finish(_ out: Rows) {
    operations.pool.run(out.count, HeadMerge(loss: self, out: out))
  }

  private var chunkRows: Int {
    guard operations.multipliesIntegers(head) else { return linearTileRows }
    let stripes = Self.chunkBytes / (head.panelByteCount * Self.stripeRows / 16)
    return Self.stripeRows * min(max(1, stripes), Self.maxChunkRows / Self.stripeRows)
  }

  // MARK: One part

  fileprivate func maximum(_ part: Int, _ proxy: Int) -> UnsafeMutablePointer<HeadMaximum> {
    maxima + part * maxProxyRows + proxy
  }

  /// G of one part, `(proxy, dim)`.
  fileprivate func others(_ part: Int) -> Rows {
    sums.rows((part * maxProxyRows)..<((part + 1) * maxProxyRows))
  }

  /// W_m of one part, `(proxy, dim)`.
  fileprivate func greatest(_ part: Int) -> Rows {
    let first = Self.partCount * maxProxyRows
    return sums.rows((first + part * maxProxyRows)..<(first + (part + 1) * maxProxyRows))
  }

  /// Adds one chunk of rows to a part.
  fileprivate func add(_ chunk: Range<Int>, to part: Int, _ input: Rows, thread: Int) {
    let weight = head.rows(chunk)
    let first = logits[part * maxProxyRows]
    let tile =
      operations.multipliesIntegers(head)
      ? nil : operations.floatRows(weight, 0..<chunk.count, thread: thread)
    // Where nothing has been added up yet, nothing is there to add to.
    let adds = (0..<input.count).contains { maximum(part, $0).pointee.row >= 0 } ? 1 : 0
    multiply(weight, tile, input, first)
    for proxy in 0..<input.count {
      addExponentials(weight, tile, first + proxy * logits.dim, chunk.lowerBound, part, proxy)
    }
    let sums = others(part)
    if let tile {
      let rows = pio_floats(data: tile, stride: head.columns, kind: UInt32(PIO_F32.rawValue))
      operations.kernels.gradients.gemm_transposed_float(
        sums.base, sums.dim, rows, first, logits.dim, 1, input.count, chunk.count, sums.dim,
        Int32(adds))
    } else {
      var matrix = weight.matrix
      operations.kernels.gradients.gemm_transposed_int8(
        sums.base, sums.dim, &matrix, 0, chunk.count, 0, weight.groupCount, first, logits.dim,
        input.count, Int32(adds))
    }
  }

  /// `logits = input Wᵀ` of a chunk.
  private func multiply(
    _ weight: Linear, _ tile: UnsafePointer<Float>?, _ input: Rows,
    _ out: UnsafeMutablePointer<Float>
  ) {
    if let tile {
      operations.kernels.gemm_f32(
        out, logits.dim, tile, weight.columns, input.base, input.dim, input.count, weight.rows,
        weight.columns, weight.bias, 0)
    } else {
      var matrix = weight.matrix
      operations.kernels.gemm(
        out, logits.dim, &matrix, operations.activations, input.count, 0, (weight.rows + 15) / 16,
        weight.bias, 0)
    }
  }

  /// One proxy row's logits of a chunk become `exp(l − maximum)`, 0 at the maximum; what was added up before follows
  /// the maximum.
  private func addExponentials(
    _ weight: Linear, _ tile: UnsafePointer<Float>?, _ logits: UnsafeMutablePointer<Float>,
    _ firstRow: Int, _ part: Int, _ proxy: Int
  ) {
    let kernels = operations.kernels
    let state = maximum(part, proxy)
    let best = kernels.argmax(logits, weight.rows)
    if best == weight.rows { state.pointee.logit = .nan }  // one is no number, or infinite
    guard !state.pointee.logit.isNaN else {
      return logits.update(repeating: 0, count: weight.rows)
    }
    if state.pointee.row < 0 || logits[best] > state.pointee.logit {
      let row = greatest(part)[proxy]
      if state.pointee.row >= 0 {
        let shrink = expf(state.pointee.logit - logits[best])
        let sums = others(part)[proxy]
        for column in 0..<head.columns { sums[column] = shrink * (sums[column] + row[column]) }
        state.pointee.others = shrink * (state.pointee.others + 1)
      }
      if let tile {
        row.update(from: tile + best * head.columns, count: head.columns)
      } else {
        var matrix = weight.matrix
        pio_dequantize_rows(row, head.columns, &matrix, best, best + 1)
      }
      state.pointee.logit = logits[best]
      state.pointee.row = Int32(firstRow + best)
      logits[best] = -.infinity
    }
    state.pointee.others += kernels.gradients.exponentials(
      logits, state.pointee.logit, weight.rows)
  }
}

/// A part's share of some rows: neighbours, so that while one chunk is multiplied back the next one comes.
private struct HeadPass: ParallelBody {
  let loss: HeadLoss
  let input: Rows
  let range: Range<Int>
  let chunkRows: Int

  func run(task: Int, thread: Int) {
    let stripes = (range.count + HeadLoss.stripeRows - 1) / HeadLoss.stripeRows
    func boundary(_ part: Int) -> Int {
      min(
        range.upperBound,
        range.lowerBound + stripes * part / HeadLoss.partCount * HeadLoss.stripeRows)
    }
    var first = boundary(task)
    let end = boundary(task + 1)
    while first < end {
      let chunk = first..<min(end, first + chunkRows)
      loss.add(chunk, to: task, input, thread: thread)
      first = chunk.upperBound
    }
  }
}

/// One proxy row's parts, put together.
private struct HeadMerge: ParallelBody {
  let loss: HeadLoss
  let out: Rows

  func run(task: Int, thread: Int) {
    let row = out[task]
    guard let best = bestPart(task) else { return row.update(repeating: .nan, count: out.dim) }
    let most = loss.maximum(best, task).pointee.logit
    var others: Float = 0
    row.update(repeating: 0, count: out.dim)
    for part in 0..<HeadLoss.partCount {
      let state = loss.maximum(part, task).pointee
      guard state.row >= 0 else { continue }
      let factor = expf(state.logit - most)
      let (sums, greatest) = (loss.others(part)[task], loss.greatest(part)[task])
      // Another part's maximum is one of the others.
      let added: Float = part == best ? 0 : 1
      others += factor * (state.others + added)
      for column in 0..<out.dim {
        row[column] += factor * (sums[column] + added * greatest[column])
      }
    }
    let greatest = loss.greatest(best)[task]
    let factor = 1 / (Float(out.count) * (1 + others))
    for column in 0..<out.dim {
      row[column] = factor * (row[column] - others * greatest[column])
    }
  }

  /// The part with the greatest logit, of equals with the first row; nil: one is no number.
  private func bestPart(_ proxy: Int) -> Int? {
    var best: Int?
    for part in 0..<HeadLoss.partCount {
      let state = loss.maximum(part, proxy).pointee
      if state.logit.isNaN { return nil }
      guard state.row >= 0 else { continue }
      let known = best.map { loss.maximum($0, proxy).pointee }
      if let known, (known.logit, -known.row) > (state.logit, -state.row) { continue }
      best = part
    }
    return best
  }
}
