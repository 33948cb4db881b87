import CPIOKernels
import Testing

private let unit = 0x1p-24  // half a unit in the last place of 1

extension Weights {
  /// The weight (row, col) and the size that the bound of `pio_gemm_transposed` speaks of.
  fileprivate func exact(_ row: Int, _ col: Int) -> (value: Double, size: Double) {
    let scale = Double(pio_f16_to_f32(scales[row][col / group]))
    let scaled = scale * Double(Int(codes[row][col]) - zero)
    guard isAffine else { return (scaled, abs(scaled)) }
    let minimum = Double(pio_f16_to_f32(minima[row][col / group]))
    return (scaled + minimum, abs(scaled) + abs(minimum) + 8 * abs(scale))
  }
}

private struct Shape: CustomTestStringConvertible {
  let rows, cols, group: Int
  let quant: pio_quant

  var testDescription: String { "\(rows) x \(cols), \(group), \(quant.rawValue)" }
}

private let shapes: [Shape] = [PIO_INT8, PIO_INT4, PIO_INT4_AFFINE].flatMap { quant in
  [(1, 1, 32), (17, 40, 32), (70, 129, 64), (150, 260, 128), (272, 64, 64)].map {
    Shape(rows: $0.0, cols: $0.1, group: $0.2, quant: quant)
  }
}

@Test(arguments: shapes, [1, 2, 3, 4, 5, 8, 19])
private func gemmBackIsWithinItsBound(_ shape: Shape, tokens: Int) {
  var random = Random(shape.rows + tokens)
  let w = Weights(
    rows: shape.rows, cols: shape.cols, group: shape.group, quant: shape.quant, random: &random)
  // All rows, and a range that begins and ends inside of a block.
  for (first, last) in [(0, w.rows), (w.rows / 4 + 1, w.rows - w.rows / 8)] where first < last {
    let (xStride, yStride) = (last - first + 3, w.cols + 2)
    let x = random.floats(tokens * xStride), before = random.floats(tokens * yStride)
    for (table, accumulate) in tables.flatMap({ [($0, false), ($0, true)] }) {
      var y = before
      w.withMatrix { matrix in
        // In two calls, as two threads would.
        for (begin, end) in [(0, w.groups / 2), (w.groups / 2, w.groups)] {
          table.pointee.gradients.gemm_transposed(
            &y, yStride, matrix, first, last, begin, end, x, xStride, tokens, accumulate ? 1 : 0)
        }
      }
      var failures = 0
      for t in 0..<tokens {
        for col in 0..<yStride {
          let found = y[t * yStride + col], old = before[t * yStride + col]
          guard col < w.cols else {
            #expect(found == old, "wrote behind the columns")
            continue
          }
          var exact = accumulate ? Double(old) : 0
          var size = abs(exact)
          for row in first..<last {
            let (value, magnitude) = w.exact(row, col)
            let factor = Double(x[t * xStride + row - first])
            exact += factor * value
            size += abs(factor) * magnitude
          }
          let bound = Double(last - first + 8) * 2 * unit * size
          if !(abs(Double(found) - exact) <= bound) { failures += 1 }
        }
      }
      #expect(failures == 0, "\(name(table)) rows \(first)..<\(last) accumulate \(accumulate)")
    }
  }
}

@Test(arguments: [PIO_F32, PIO_F16, PIO_BF16].map(\.rawValue), [1, 3, 4, 9, 20])
func gemmBackFloatIsWithinItsBound(kind: UInt32, tokens: Int) {
  var random = Random(tokens)
  for (rows, cols) in [(1, 1), (5, 33), (64, 31), (130, 70)] {
    let (wStride, yStride) = (cols + 5, cols + 1)
    let drawn = random.floats(rows * wStride)
    let halves = drawn.map { kind == PIO_BF16.rawValue ? pio_bf16_from_f32($0) : halfBits($0) }
    let exactWeights: [Float] =
      kind == PIO_F32.rawValue
      ? drawn
      : halves.map { kind == PIO_F16.rawValue ? pio_f16_to_f32($0) : pio_bf16_to_f32($0) }
    // Row-major inputs, and inputs by columns.
    for (xStride, xStep) in [(rows + 1, 1), (1, tokens + 2)] {
      let x = random.floats((tokens + 2) * (rows + 2))
      let before = random.floats(tokens * yStride)
      for (table, accumulate) in tables.flatMap({ [($0, false), ($0, true)] }) {
        var y = before
        func run(_ data: UnsafeRawPointer) {
          table.pointee.gradients.gemm_transposed_float(
            &y, yStride, pio_floats(data: data, stride: wStride, kind: kind), x, xStride, xStep,
            tokens, rows, cols, accumulate ? 1 : 0)
        }
        if kind == PIO_F32.rawValue {
          drawn.withUnsafeBytes { run($0.baseAddress!) }
        } else {
          halves.withUnsafeBytes { run($0.baseAddress!) }
        }
        for t in 0..<tokens {
          #expect(y[t * yStride + cols] == before[t * yStride + cols])
          for col in 0..<cols {
            var exact = accumulate ? Double(before[t * yStride + col]) : 0
            var size = abs(exact)
            for row in 0..<rows {
              let term =
                Double(x[t * xStride + row * xStep]) * Double(exactWeights[row * wStride + col])
              exact += term
              size += abs(term)
            }
            #expect(
              abs(Double(y[t * yStride + col]) - exact) <= Double(rows + 4) * unit * size,
              "\(name(table)) \(rows) x \(cols) at \(t), \(col)")
          }
        }
      }
    }
  }
}
