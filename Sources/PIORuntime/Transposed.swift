import CPIOKernels
import PIOFormat
import PIOThreads

extension Linear {
  /// The matrix from row `first` on, where it is stored in floating point.
  func floats(from first: Int, column: Int = 0) -> pio_floats {
    let offset = (first * columns + column) * (kind == .f32 ? 4 : 2)
    return pio_floats(data: data + offset, stride: columns, kind: UInt32(kind.rawValue))
  }

  /// Columns that a task of a transposed product takes: of quantized weights what a pass of the kernel takes, which is
  /// whole groups.
  fileprivate var columnsPerTask: Int { kind.isQuantized ? 128 : 64 }
}

extension Operations {
  /// `out = x W`, or `out += x W`: the derivative of `linear` by its input.
  ///
  /// Shapes: `x` is `(n, rows)`, `out` is `(n, columns)`. In f32 with dequantized weights, which serve many rows at
  /// once; or, `quantized` where the weights are and `compute` is not f32, with x in 8 bits: faster for a few rows.
  func transposed(
    _ x: Rows, _ weight: Linear, _ out: Rows, accumulate: Bool = false, quantized: Bool
  ) {
    precondition(
      x.dim == weight.rows && out.dim == weight.columns, "transposed: widths differ")
    precondition(x.count == out.count, "transposed: row counts differ")
    transposed(
      TransposedProduct.Slice(x: x, rows: 0..<weight.rows, out: out), count: 1,
      step: (0, 0, 0), weight, accumulate: accumulate, quantized: quantized)
  }

  /// `out[s] = x[s] W[rows of s]` for `count` slices of as many rows each.
  ///
  /// Shapes: `x` is `(count · n, slice)`, `out` `(count · n, columns)`, and `weight.rows` is `count · slice`.
  func transposedBySlices(
    _ x: Rows, _ weight: Linear, _ out: Rows, count: Int, quantized: Bool
  ) {
    let rows = x.count / count
    precondition(x.dim * count == weight.rows && out.dim == weight.columns, "transposed: widths")
    precondition(x.count == out.count && rows * count == x.count, "transposed: row counts differ")
    transposed(
      TransposedProduct.Slice(x: x.rows(0..<rows), rows: 0..<x.dim, out: out.rows(0..<rows)),
      count: count, step: (rows * x.dim, x.dim, rows * out.dim), weight, accumulate: false,
      quantized: quantized)
  }

  private func transposed(
    _ slice: TransposedProduct.Slice, count: Int, step: (x: Int, row: Int, out: Int),
    _ weight: Linear, accumulate: Bool, quantized: Bool
  ) {
    let tasks = (weight.columns + weight.columnsPerTask - 1) / weight.columnsPerTask
    pool.run(
      tasks * count,
      TransposedProduct(
        kernels: kernels, weight: weight, slice: slice, step: step, tasks: tasks,
        isQuantized: quantized && compute != .f32, accumulate: accumulate))
  }
}

/// Columns of one slice after the other.
private struct TransposedProduct: ParallelBody {
  struct Slice {
    let x: Rows
    let rows: Range<Int>
    let out: Rows
  }

  let kernels: pio_kernels
  let weight: Linear
  let slice: Slice
  let step: (x: Int, row: Int, out: Int)
  /// For each slice.
  let tasks: Int
  /// Whether x is to be quantized, too.
  let isQuantized: Bool
  let accumulate: Bool

  func run(task: Int, thread: Int) {
    let index = task / tasks
    let part = task % tasks
    let x = slice.x.base + index * step.x
    let out = slice.out.base + index * step.out
    let first = slice.rows.lowerBound + index * step.row
    if weight.kind.isQuantized {
      var matrix = weight.matrix
      let groups = weight.columnsPerTask / weight.group
      let end = min((part + 1) * groups, (weight.columns + weight.group - 1) / weight.group)
      let kernel =
        isQuantized ? kernels.gradients.gemm_transposed_int8! : kernels.gradients.gemm_transposed!
      kernel(
        out, weight.columns, &matrix, first, first + slice.rows.count, part * groups, end, x,
        slice.x.dim, slice.x.count, accumulate ? 1 : 0)
    } else {
      let column = part * weight.columnsPerTask
      kernels.gradients.gemm_transposed_float(
        out + column, weight.columns, weight.floats(from: first, column: column), x, slice.x.dim, 1,
        slice.x.count, slice.rows.count, min(weight.columnsPerTask, weight.columns - column),
        accumulate ? 1 : 0)
    }
  }
}
