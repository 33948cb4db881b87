import COpenBLAS
import CPIOKernels
import PIOFormat
import PIOThreads

/// Rows of a weight matrix that one thread dequantizes at a time in the f32 mode.
let linearTileRows = 64

/// A weight matrix `(rows, columns)` and its bias, where they lie in the file.
struct Linear {
  let data: UnsafeRawPointer
  let kind: TensorKind
  let group: Int
  let rows: Int
  let columns: Int
  let bias: UnsafePointer<Float>?

  /// The rows of `range` alone; it starts at a multiple of 16.
  func rows(_ range: Range<Int>) -> Linear {
    precondition(range.lowerBound % 16 == 0 && range.upperBound <= self.rows, "rows out of range")
    return Linear(
      data: data + range.lowerBound / 16 * panelByteCount, kind: kind, group: group,
      rows: range.count, columns: columns, bias: bias.map { $0 + range.lowerBound })
  }

  /// Bytes of 16 rows.
  var panelByteCount: Int {
    let encoding = TensorEncoding(kind: kind, layout: .blocks16, group: group)
    return kind.isQuantized
      ? groupCount * blockByteCount(encoding) : 16 * columns * (kind == .f32 ? 4 : 2)
  }

  /// Groups of a quantized row.
  var groupCount: Int { (columns + group - 1) / group }

  var matrix: pio_matrix {
    pio_matrix(
      blocks: data.assumingMemoryBound(to: UInt8.self), rows: rows, cols: columns,
      group: UInt32(group), quant: UInt32(kind.rawValue))
  }
}

/// Rows that one or several weights are multiplied with.
struct LinearInput {
  let rows: Rows
  /// The group size for which the plan's activations were given these rows; 0: none yet.
  fileprivate(set) var quantizedGroup = 0
  /// Which of the operations' inputs this was when they were.
  fileprivate var stamp = 0

  init(_ rows: Rows) { self.rows = rows }
}

/// A weight, and where its product with some rows goes.
struct Product {
  let weight: Linear
  let out: Rows
  let accumulate: Bool

  init(_ weight: Linear, _ out: Rows, accumulate: Bool = false) {
    self.weight = weight
    self.out = out
    self.accumulate = accumulate
  }

  /// Of 16 rows.
  var blocks: Int { (weight.rows + 15) / 16 }
}

/// Counts the inputs that were quantized: the last of them is in the plan's activations.
final class InputCounter {
  fileprivate(set) var count = 0
}

/// The kernels, the threads and their scratch: what every operation runs on.
struct Operations {
  let kernels: pio_kernels
  let pool: ThreadPool
  let compute: Compute
  let activations: pio_activations
  let tiles: UnsafeMutablePointer<Float>
  let tileFloats: Int
  let attentionScratch: UnsafeMutablePointer<Float>
  let attentionFloats: Int
  let attentionParts: UnsafeMutableBufferPointer<Float>
  private let inputs = InputCounter()

  init(kernels: pio_kernels, pool: ThreadPool, plan: ArenaLayout, arena: borrowing Arena) {
    self.kernels = kernels
    self.pool = pool
    compute = plan.limits.compute
    let regions = plan.operations
    activations = pio_activations(
      values: arena.pointer(regions.linear.values), scales: arena.pointer(regions.linear.scales),
      sums: arena.pointer(regions.linear.sums))
    tiles = arena.pointer(regions.linear.tiles)
    tileFloats = regions.linear.tileFloats
    attentionScratch = arena.pointer(regions.attention)
    attentionFloats = regions.attention.count / pool.threadCount
    attentionParts = arena.buffer(regions.attentionParts)
  }

  /// `out = x Wᵀ + bias`, or `out += x Wᵀ + bias` at the end of a residual branch.
  ///
  /// Shapes: `input` is `(n, columns)`, `out` `(n, rows)`. The input is quantized at the first product that needs it
  /// and stays so for the next ones: nothing may be written to its rows in between. Traps if another input has been
  /// quantized in between.
  func linear(
    _ input: inout LinearInput, _ weight: Linear, _ out: Rows, accumulate: Bool = false
  ) {
    let product = Product(weight, out, accumulate: accumulate)
    check(input, product)
    apply(&input, product)
  }

  /// Products of one input with two or three weights, `linear` each. Weights of the same kind are one stretch of work,
  /// at whose end alone threads wait for each other.
  func linear(
    _ input: inout LinearInput, _ first: Product, _ second: Product, _ third: Product? = nil
  ) {
    let weights = (first.weight, second.weight, third?.weight ?? second.weight)
    let isOneKind =
      weights.0.kind == weights.1.kind && weights.1.kind == weights.2.kind
      && weights.0.group == weights.1.group && weights.1.group == weights.2.group
    guard isOneKind, multipliesIntegers(weights.0) else {
      linear(&input, first.weight, first.out, accumulate: first.accumulate)
      linear(&input, second.weight, second.out, accumulate: second.accumulate)
      if let third { linear(&input, third.weight, third.out, accumulate: third.accumulate) }
      return
    }
    check(input, first)
    check(input, second)
    if let third { check(input, third) }
    quantize(&input, group: weights.0.group)
    applyQuantized(first, second, third)
  }

  private func check(_ input: LinearInput, _ product: Product) {
    let (weight, out) = (product.weight, product.out)
    precondition(
      input.rows.dim == weight.columns && out.dim == weight.rows, "linear: widths differ")
    precondition(input.rows.count == out.count, "linear: row counts differ")
  }

  /// `out.dim` is what lies between two rows.
  private func apply(_ input: inout LinearInput, _ product: Product) {
    prepare(&input, for: product.weight)
    guard multipliesIntegers(product.weight) else {
      return applyFloat(
        product.weight, input.rows, product.out, accumulate: product.accumulate)
    }
    applyQuantized(product, nil, nil)
  }

  /// Whether products with this weight are of integers.
  func multipliesIntegers(_ weight: Linear) -> Bool { weight.kind.isQuantized && compute != .f32 }

  /// Quantizes the input where products with this weight need that.
  func prepare(_ input: inout LinearInput, for weight: Linear) {
    if multipliesIntegers(weight) { quantize(&input, group: weight.group) }
  }

  private func applyQuantized(_ first: Product, _ second: Product?, _ third: Product?) {
    let blocks = first.blocks + (second?.blocks ?? 0) + (third?.blocks ?? 0)
    let cut = BlockCut(
      blocks: blocks, rowCount: first.out.count, threadCount: pool.threadCount)
    pool.run(
      cut.taskCount,
      QuantizedProducts(operations: self, first: first, second: second, third: third, cut: cut))
  }

  private func quantize(_ input: inout LinearInput, group: Int) {
    guard input.quantizedGroup != group else {
      return precondition(isCurrent(input), "linear: another input has been quantized since")
    }
    quantize(input.rows, group: group)
    input.quantizedGroup = group
    inputs.count += 1
    input.stamp = inputs.count
  }

  /// Whether the plan's activations still hold this input, or have not had it yet.
  func isCurrent(_ input: LinearInput) -> Bool {
    input.quantizedGroup == 0 || input.stamp == inputs.count
  }

  private func quantize(_ x: Rows, group: Int) {
    let rowsPerTask = max(1, x.count / (pool.threadCount * 2))
    pool.run(
      (x.count + rowsPerTask - 1) / rowsPerTask,
      Quantization(operations: self, x: x, group: group, rowsPerTask: rowsPerTask))
  }

  private func applyFloat(_ weight: Linear, _ x: Rows, _ out: Rows, accumulate: Bool) {
    pool.run(
      (weight.rows + linearTileRows - 1) / linearTileRows,
      FloatProduct(operations: self, weight: weight, x: x, out: out, accumulate: accumulate))
  }
}

/// Slices of rows into the plan's activations.
private struct Quantization: ParallelBody {
  let operations: Operations
  let x: Rows
  let group: Int
  let rowsPerTask: Int

  func run(task: Int, thread: Int) {
    let groups = (x.dim + group - 1) / group
    let first = task * rowsPerTask
    let all = operations.activations
    let slice = pio_activations(
      values: all.values + first * groups * group, scales: all.scales + first * groups,
      sums: all.sums + first * groups)
    operations.kernels.quantize(
      slice, x[first], x.dim, min(rowsPerTask, x.count - first), x.dim, UInt32(group))
  }
}

/// The f32 mode: rows of weights as they are, or dequantized a tile at a time, times the whole input.
private struct FloatProduct: ParallelBody {
  let operations: Operations
  let weight: Linear
  let x: Rows
  let out: Rows
  let accumulate: Bool

  func run(task: Int, thread: Int) {
    let first = task * linearTileRows
    let count = min(linearTileRows, weight.rows - first)
    let kernels = operations.kernels
    let tile = operations.floatRows(weight, first..<(first + count), thread: thread)
    let bias = weight.bias.map { $0 + first }
    // A few rows are a matter of bandwidth, and BLAS packs the weights first.
    if x.count >= 8,
      pio_sgemm(
        out.base + first, out.dim, tile, weight.columns, x.base, x.dim, x.count, count,
        weight.columns, accumulate ? 1 : 0) != 0
    {
      if let bias {
        for row in 0..<x.count { kernels.add(out[row] + first, bias, count) }
      }
    } else {
      kernels.gemm_f32(
        out.base + first, out.dim, tile, weight.columns, x.base, x.dim, x.count, count,
        weight.columns, bias, accumulate ? 1 : 0)
    }
  }
}

extension Operations {
  /// Rows of a weight in f32: a view where they are stored so, else dequantized into the thread's tile, which has room
  /// for `linearTileRows`.
  func floatRows(_ weight: Linear, _ rows: Range<Int>, thread: Int) -> UnsafePointer<Float> {
    let count = rows.count * weight.columns
    let offset = rows.lowerBound * weight.columns
    let tile = tiles + thread * tileFloats
    let halves = weight.data.assumingMemoryBound(to: UInt16.self) + offset
    switch weight.kind {
    case .f32: return weight.data.assumingMemoryBound(to: Float.self) + offset
    case .f16: kernels.f16_to_f32(tile, halves, count)
    case .bf16: kernels.bf16_to_f32(tile, halves, count)
    case .int8, .int4, .int4Affine:
      var matrix = weight.matrix
      pio_dequantize_rows(tile, weight.columns, &matrix, rows.lowerBound, rows.upperBound)
    }
    return UnsafePointer(tile)
  }
}
