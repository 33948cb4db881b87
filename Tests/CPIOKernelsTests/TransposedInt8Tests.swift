import CPIOKernels
import Testing

// Products with transposed weights whose other factor is 8 bits: the definition is `gemm_transposed_int8`'s.

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

/// Rows of all, and a range that begins and ends inside of a block.
private func ranges(_ w: Weights) -> [Range<Int>] {
  let inner = (w.rows / 4 + 1, w.rows - w.rows / 8)
  return [0..<w.rows] + (inner.0 < inner.1 ? [inner.0..<inner.1] : [])
}

extension UnsafePointer<pio_kernels> {
  /// In two calls, as two threads would.
  fileprivate func back(
    _ y: [Float], _ w: Weights, _ rows: Range<Int>, _ x: [Float], tokens: Int, accumulate: Bool
  ) -> [Float] {
    var y = y
    let (xStride, yStride) = (x.count / tokens, y.count / tokens)
    w.withMatrix { matrix in
      for (begin, end) in [(0, w.groups / 2), (w.groups / 2, w.groups)] {
        pointee.gradients.gemm_transposed_int8(
          &y, yStride, matrix, rows.lowerBound, rows.upperBound, begin, end, x, xStride, tokens,
          accumulate ? 1 : 0)
      }
    }
    return y
  }
}

@Test(arguments: shapes, [1, 2, 3, 4, 5, 8, 19])
private func quantizedBackHasTheBitsOfItsTwin(_ shape: Shape, tokens: Int) {
  var random = Random(shape.rows + tokens)
  let codes: [UInt8?] = [nil, 0, shape.quant == PIO_INT8 ? 255 : 15]
  for code in codes {
    let w = Weights(
      rows: shape.rows, cols: shape.cols, group: shape.group, quant: shape.quant, random: &random,
      code: code)
    for rows in ranges(w) {
      var x = random.floats(tokens * (rows.count + 3))
      if code != nil { x = x.map { $0 < 0 ? -1 : 1 } }
      let before = random.floats(tokens * (w.cols + 2))
      for accumulate in [false, true] {
        let twin = tables[0].back(before, w, rows, x, tokens: tokens, accumulate: accumulate)
        for table in tables.dropFirst() {
          let found = table.back(before, w, rows, x, tokens: tokens, accumulate: accumulate)
          #expect(bits(found) == bits(twin), "\(name(table)) rows \(rows) code \(code ?? 1)")
        }
      }
    }
  }
}

@Test(arguments: shapes)
private func quantizedBackIsWithinItsBound(_ shape: Shape) {
  var random = Random(shape.cols)
  let w = Weights(
    rows: shape.rows, cols: shape.cols, group: shape.group, quant: shape.quant, random: &random)
  let tokens = 3
  for rows in ranges(w) {
    let x = random.floats(tokens * rows.count), before = random.floats(tokens * w.cols)
    let y = tables[0].back(before, w, rows, x, tokens: tokens, accumulate: true)
    var failures = 0
    for t in 0..<tokens {
      for col in 0..<w.cols {
        let (exact, bound) = product(w, rows, Array(x[(t * rows.count)...]), col)
        let sum = Double(before[t * w.cols + col]) + exact
        if !(abs(Double(y[t * w.cols + col]) - sum) <= bound) { failures += 1 }
      }
    }
    #expect(failures == 0, "rows \(rows)")
  }
}

/// The exact product of one token and column, and how far from it the quantized one may be.
private func product(
  _ w: Weights, _ rows: Range<Int>, _ x: [Float], _ col: Int
) -> (Double, Double) {
  let zero = w.quant == PIO_INT8 ? 128 : 8
  var exact = 0.0, bound = 0.0, size = 1.0
  var first = rows.lowerBound / 16 * 16
  while first < rows.upperBound {
    var greatest = 0.0, distance = 0.0
    for row in max(first, rows.lowerBound)..<min(first + 64, rows.upperBound) {
      let factor = Double(x[row - rows.lowerBound])
      let scale = Double(pio_f16_to_f32(w.scales[row][col / w.group]))
      let code = Double(Int(w.codes[row][col]) - zero)
      exact += factor * scale * code
      greatest = max(greatest, abs(factor * scale))
      distance += abs(code)
      size += abs(factor * scale * code)
      guard w.isAffine else { continue }
      let base = Double(pio_f16_to_f32(w.minima[row][col / w.group])) + 8 * scale
      exact += factor * base
      size += abs(factor * base)
    }
    bound += greatest / 127 / 2 * distance
    first += 64
  }
  return (exact, bound * (1 + 1e-5) + size * Double(rows.count + 8) * 0x1p-23)
}

@Test(arguments: [PIO_INT8, PIO_INT4, PIO_INT4_AFFINE].map(\.rawValue))
func quantizedBackOfWhatIsNoNumber(quant: UInt32) {
  var random = Random(7)
  let w = Weights(rows: 130, cols: 70, group: 32, quant: pio_quant(quant), random: &random)
  let before = random.floats(4 * 70)
  for special in [Float.nan, .infinity, -.infinity, 0, 1e-38, 1e-35, 3e38] {
    var x = random.floats(4 * 130)
    // One token with one such number, one with nothing else; the others are as ever.
    x[130 + 77] = special
    for row in 0..<130 { x[2 * 130 + row] = special }
    let plain = tables[0].back(before, w, 0..<130, x, tokens: 4, accumulate: false)
    let finite = plain.map(\.isFinite)
    #expect(!finite[..<70].contains(false) && !finite[210...].contains(false))
    if !special.isFinite { #expect(!plain[70..<210].map(\.isNaN).contains(false)) }
    for table in tables.dropFirst() {
      let found = table.back(before, w, 0..<130, x, tokens: 4, accumulate: false)
      #expect(bits(found) == bits(plain), "\(name(table)) \(special)")
    }
  }
}
