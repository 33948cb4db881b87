import CPIOKernels
import Testing

private let quants = [PIO_INT8, PIO_INT4, PIO_INT4_AFFINE]

/// The definition, from the codes as they were drawn: what every table must return to the bit.
private func product(
  _ w: Weights, _ x: Activations, tokens: Int, bias: [Float]?, onto y: [Float]?
) -> [Float] {
  var result = [Float]()
  for t in 0..<tokens {
    for row in 0..<w.rows {
      var acc: Float = 0
      for g in 0..<w.groups {
        var sum = 0
        for c in 0..<w.group where g * w.group + c < w.cols {
          let value = Int(x.values[(t * w.groups + g) * w.group + c])
          sum += (Int(w.codes[row][g * w.group + c]) - w.zero) * value
        }
        let inputScale = x.scales[t * w.groups + g]
        acc.addProduct(Float(sum), pio_f16_to_f32(w.scales[row][g]) * inputScale)
        guard w.isAffine else { continue }
        let minimum = pio_f16_to_f32(w.minima[row][g])
        acc.addProduct(minimum, inputScale * Float(x.sums[t * w.groups + g]))
      }
      if let bias { acc = acc + bias[row] }
      if let y { acc = y[t * w.rows + row] + acc }
      result.append(acc)
    }
  }
  return result
}

/// Every table's product of blocks `range`, on rows `stride` apart, into a copy of `y`.
private func gemm(
  _ table: UnsafePointer<pio_kernels>, _ w: Weights, _ x: Activations, tokens: Int,
  into y: inout [Float], stride: Int, blocks: Range<Int>, bias: [Float]? = nil,
  accumulate: Bool = false
) {
  var x = x
  w.withMatrix { matrix in
    x.withActivations { activations in
      func run(_ bias: UnsafePointer<Float>?) {
        table.pointee.gemm(
          &y, stride, matrix, activations, tokens, blocks.lowerBound, blocks.upperBound, bias,
          accumulate ? 1 : 0)
      }
      if let bias { bias.withUnsafeBufferPointer { run($0.baseAddress) } } else { run(nil) }
    }
  }
}

@Test(arguments: quants, [32, 64, 128])
func everyTableReturnsTheDefinitionsBits(quant: pio_quant, group: Int) {
  var random = Random(group + Int(quant.rawValue))
  for tokens in 1...19 {
    let rows = random.int(1...70), cols = random.int(1...300)
    let w = Weights(rows: rows, cols: cols, group: group, quant: quant, random: &random)
    let x = random.floats(tokens * cols, -3...3)
    let a = Activations(tables[0], x, stride: cols, tokens: tokens, cols: cols, group: group)
    let bias = tokens % 2 == 0 ? random.floats(rows) : nil
    let before = random.floats(tokens * rows), accumulate = tokens % 3 == 0
    let expected = product(w, a, tokens: tokens, bias: bias, onto: accumulate ? before : nil)
    for table in tables {
      var y = before
      gemm(
        table, w, a, tokens: tokens, into: &y, stride: rows, blocks: 0..<(rows + 15) / 16,
        bias: bias, accumulate: accumulate)
      #expect(bits(y) == bits(expected), "\(name(table)) \(tokens) x \(rows) x \(cols)")
    }
  }
}

/// So many columns that they are done in parts, and so many groups that a single token's are.
@Test(arguments: quants, [(32, 5000), (128, 6200), (32, 24_700)])
func manyColumnsReturnTheDefinitionsBits(quant: pio_quant, shape: (group: Int, cols: Int)) {
  var random = Random(shape.cols)
  let (group, cols) = shape
  let w = Weights(rows: 18, cols: cols, group: group, quant: quant, random: &random)
  for tokens in cols > 20_000 ? [1, 2] : [1, 2, 3, 8, 11] {
    let x = random.floats(tokens * cols, -3...3)
    let a = Activations(tables[0], x, stride: cols, tokens: tokens, cols: cols, group: group)
    let before = random.floats(tokens * 18), bias = random.floats(18)
    let expected = product(w, a, tokens: tokens, bias: bias, onto: before)
    for table in tables {
      var y = before
      gemm(
        table, w, a, tokens: tokens, into: &y, stride: 18, blocks: 0..<2, bias: bias,
        accumulate: true)
      #expect(bits(y) == bits(expected), "\(name(table)) \(tokens) x \(cols)")
    }
  }
}

@Test(arguments: quants)
func aRangeOfBlocksWritesItsRowsOnly(quant: pio_quant) {
  var random = Random(7)
  let rows = 75, cols = 96, tokens = 11, stride = 83
  let w = Weights(rows: rows, cols: cols, group: 32, quant: quant, random: &random)
  let x = random.floats(tokens * 101)
  let a = Activations(tables[0], x, stride: 101, tokens: tokens, cols: cols, group: 32)
  let whole = product(w, a, tokens: tokens, bias: nil, onto: nil)
  for table in tables {
    for range in [0..<1, 1..<3, 4..<5, 0..<5, 2..<2] {
      var y = [Float](repeating: 12345, count: tokens * stride)
      gemm(table, w, a, tokens: tokens, into: &y, stride: stride, blocks: range)
      for t in 0..<tokens {
        for row in 0..<stride {
          let inside = row < rows && range.contains(row / 16)
          let expected = inside ? whole[t * rows + row] : 12345
          #expect(y[t * stride + row] == expected, "\(name(table)) \(range) token \(t) row \(row)")
        }
      }
    }
  }
}

/// 255 x 127 overflows 16 bits in pairs, and sums of -128 x -127 come close.
@Test(arguments: [PIO_INT8, PIO_INT4, PIO_INT4_AFFINE], [0, 255])
func extremeCodesDoNotSaturate(quant: pio_quant, code: Int) {
  var random = Random(code)
  let tokens = 9, rows = 33, cols = 256
  let top = quant == PIO_INT8 ? code : min(code, 15)
  let w = Weights(
    rows: rows, cols: cols, group: 128, quant: quant, random: &random, code: UInt8(top))
  for pattern in 0..<4 {
    let x = (0..<tokens * cols).map { i -> Float in
      [1, -1, i % 2 == 0 ? 1 : -1, i / 2 % 2 == 0 ? 1 : -1][pattern]
    }
    let a = Activations(tables[0], x, stride: cols, tokens: tokens, cols: cols, group: 128)
    #expect(a.values.allSatisfy { abs($0) == 127 })
    let expected = product(w, a, tokens: tokens, bias: nil, onto: nil)
    for table in tables {
      var y = [Float](repeating: 0, count: tokens * rows)
      gemm(table, w, a, tokens: tokens, into: &y, stride: rows, blocks: 0..<3)
      #expect(bits(y) == bits(expected), "\(name(table)) pattern \(pattern)")
    }
  }
}

@Test func damagedWeightScalesTouchTheirRowsOnly() {
  var random = Random(3)
  var w = Weights(rows: 20, cols: 64, group: 32, quant: PIO_INT4_AFFINE, random: &random)
  w.scales[3][0] = 0x7e00  // NaN
  w.minima[18][1] = 0x7c00  // infinity
  w.pack()
  let a = Activations(
    tables[0], random.floats(9 * 64), stride: 64, tokens: 9, cols: 64, group: 32)
  for table in tables {
    var y = [Float](repeating: 0, count: 9 * 20)
    gemm(table, w, a, tokens: 9, into: &y, stride: 20, blocks: 0..<2)
    for i in y.indices { #expect(y[i].isFinite == (i % 20 != 3 && i % 20 != 18), "\(name(table))") }
  }
}

@Test(arguments: [32, 64, 128])
func everyTableQuantizesToTheSameBits(group: Int) {
  var random = Random(group)
  for cols in [1, 5, group - 1, group, group + 1, 588, 576, 3 * group + 17] {
    let tokens = 3, stride = cols + 3
    var x = random.floats(tokens * stride, -5...5)
    x[0] = .leastNonzeroMagnitude
    x[stride..<stride + min(cols, group)] = ArraySlice(repeating: 0, count: min(cols, group))
    let expected = Activations(
      tables[0], x, stride: stride, tokens: tokens, cols: cols, group: group)
    for table in tables {
      let a = Activations(table, x, stride: stride, tokens: tokens, cols: cols, group: group)
      #expect(a == expected, "\(name(table)) \(cols)")
    }
  }
}

@Test func quantizedActivationsAreWithinHalfAStep() {
  var random = Random(11)
  let cols = 100, groups = 4
  let x = random.floats(cols, -2...2)
  let a = Activations(tables[0], x, stride: cols, tokens: 1, cols: cols, group: 32)
  for g in 0..<groups {
    let part = Array(x[g * 32..<min(cols, g * 32 + 32)])
    #expect(a.scales[g] == part.map(abs).max()! / 127)
    let values = a.values[g * 32..<g * 32 + 32].map(Int.init)
    #expect(a.sums[g] == Int32(values.reduce(0, +)))
    #expect(values.map(abs).max() == 127)
    #expect(values.dropFirst(part.count).allSatisfy { $0 == 0 })
    for (value, exact) in zip(values, part) {
      #expect(abs(Float(value) * a.scales[g] - exact) <= a.scales[g] * 0.50001)
    }
  }
}

@Test func aTieRoundsToEven() {
  let x: [Float] = [127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 126.5]
  for table in tables {
    let a = Activations(table, x, stride: 8, tokens: 1, cols: 8, group: 32)
    #expect(Array(a.values.prefix(8)) == [127, 0, 2, 2, 0, -2, -2, 126], "\(name(table))")
  }
}

/// From the smallest numbers to the largest: no value beyond 127, no NaN where x is finite.
@Test(arguments: [
  Float.leastNonzeroMagnitude, .leastNormalMagnitude / 64, .leastNormalMagnitude, 1e38,
  .greatestFiniteMagnitude,
])
func quantizesAnyMagnitude(magnitude: Float) {
  var random = Random(5)
  let x = random.floats(64).map { $0 * magnitude } + [magnitude, -magnitude]
  let expected = Activations(tables[0], x, stride: 66, tokens: 1, cols: 66, group: 32)
  #expect(expected.scales.allSatisfy { $0.isFinite })
  #expect(expected.values.allSatisfy { $0 >= -127 })
  for table in tables {
    let a = Activations(table, x, stride: 66, tokens: 1, cols: 66, group: 32)
    #expect(a == expected, "\(name(table))")
  }
}

@Test(arguments: [Float.nan, .infinity, -.infinity, .signalingNaN], [0, 17, 31, 35])
func aNonFiniteActivationPoisonsItsTokenOnly(bad: Float, position: Int) {
  var random = Random(position)
  let w = Weights(rows: 17, cols: 40, group: 32, quant: PIO_INT4, random: &random)
  var x = random.floats(3 * 40)
  x[40 + position] = bad
  for table in tables {
    let a = Activations(table, x, stride: 40, tokens: 3, cols: 40, group: 32)
    #expect(a.scales.map(\.isNaN) == [false, false, position < 32, position >= 32, false, false])
    #expect(a.values[(position < 32 ? 64 : 96)..<(position < 32 ? 96 : 128)].allSatisfy { $0 == 0 })
    var y = [Float](repeating: 0, count: 3 * 17)
    gemm(table, w, a, tokens: 3, into: &y, stride: 17, blocks: 0..<2)
    #expect(y.indices.allSatisfy { y[$0].isNaN == ($0 / 17 == 1) }, "\(name(table))")
  }
}

@Test(arguments: quants, [32, 64, 128])
func dequantizedRowsAreThePackedOnes(quant: pio_quant, group: Int) {
  var random = Random(group)
  let rows = 37, cols = 2 * group + 9
  let w = Weights(rows: rows, cols: cols, group: group, quant: quant, random: &random)
  let begin = 5, end = 34, stride = cols + 2
  var out = [Float](repeating: 777, count: (end - begin) * stride)
  w.withMatrix { pio_dequantize_rows(&out, stride, $0, begin, end) }
  for row in begin..<end {
    for c in 0..<stride {
      var expected: Float = 777
      if c < cols {
        let code = Float(Int(w.codes[row][c]) - w.zero)
        let scale = pio_f16_to_f32(w.scales[row][c / group])
        expected = code * scale
        if w.isAffine {
          expected = pio_f16_to_f32(w.minima[row][c / group]).addingProduct(code, scale)
        }
      }
      #expect(out[(row - begin) * stride + c] == expected)
    }
  }
}

/// The layout is the file format's: these bytes may not move.
@Test func blocksLieAsTheFormatSays() {
  let codes: [UInt8] = (0..<16 * 32).map { (i: Int) -> UInt8 in UInt8((i / 32) ^ (i % 15)) }
  let scales = (UInt16(0x3c00)..<0x3c10).map { $0 }, minima = (UInt16(0x4000)..<0x4010).map { $0 }
  var int4 = [UInt8](repeating: 0, count: pio_block_bytes(PIO_INT4_AFFINE.rawValue, 32))
  var int8 = [UInt8](repeating: 0, count: pio_block_bytes(PIO_INT8.rawValue, 32))
  #expect(int4.count == 256 + 64 && int8.count == 512 + 32)
  pio_pack_block(&int4, codes, scales, minima, PIO_INT4_AFFINE.rawValue, 32)
  pio_pack_block(&int8, codes, scales, minima, PIO_INT8.rawValue, 32)
  for r in 0..<16 {
    for j in 0..<4 {
      for i in 0..<4 {
        let low = codes[32 * r + 4 * j + i], high = codes[32 * r + 16 + 4 * j + i]
        #expect(int4[64 * j + 4 * r + i] == low | high << 4)
        #expect(int8[64 * j + 4 * r + i] == low && int8[256 + 64 * j + 4 * r + i] == high)
      }
    }
    #expect(int4[256 + 2 * r] == UInt8(r) && int4[257 + 2 * r] == 0x3c)
    #expect(int4[288 + 2 * r] == UInt8(r) && int4[289 + 2 * r] == 0x40)
    #expect(int8[512 + 2 * r] == UInt8(r) && int8[513 + 2 * r] == 0x3c)
  }
}

@Test func everyTablePassesItsSelfTest() {
  #expect(tables.count >= 2 || tables.map(name) == ["scalar"])
  for table in tables { #expect(pio_kernels_self_test(table) == 0, "\(name(table))") }
}

/// A table whose product is off by a bit, whose sums are, that looks too far, or that goes back in f32.
@Test func theSelfTestFindsADamagedTable() {
  var damaged = tables[0].pointee
  damaged.gemm = { y, stride, w, x, tokens, begin, end, bias, accumulate in
    pio_kernels_scalar().pointee.gemm(y, stride, w, x, tokens, begin, end, bias, accumulate)
    y![0] = y![0].nextUp
  }
  #expect(pio_kernels_self_test(&damaged) == 2)
  damaged = tables[0].pointee
  damaged.quantize = { out, x, stride, tokens, cols, group in
    pio_kernels_scalar().pointee.quantize(out, x, stride, tokens, cols, group)
    out.sums[1] += 1
  }
  #expect(pio_kernels_self_test(&damaged) == 1)
  damaged = tables[0].pointee
  damaged.attention = {
    out, outStride, q, qStride, kv, rows, heads, visible, step, scale, scratch in
    pio_kernels_scalar().pointee.attention(
      out, outStride, q, qStride, kv, rows, heads, visible + 1, step, scale, scratch)
  }
  #expect(pio_kernels_self_test(&damaged) == 3)
  damaged = tables[0].pointee
  damaged.attention_all = { out, outStride, q, qStride, kv, rows, count, scale, scratch in
    pio_kernels_scalar().pointee.attention_all(
      out, outStride, q, qStride, kv, rows, count - 1, scale, scratch)
  }
  #expect(pio_kernels_self_test(&damaged) == 3)
  damaged = tables[0].pointee
  damaged.gradients.gemm_transposed_int8 = {
    y, stride, w, rowBegin, rowEnd, begin, end, x, xStride, tokens, accumulate in
    pio_kernels_scalar().pointee.gradients.gemm_transposed(
      y, stride, w, rowBegin, rowEnd, begin, end, x, xStride, tokens, accumulate)
  }
  #expect(pio_kernels_self_test(&damaged) == 4)
}

@Test func unknownNamesHaveNoTable() {
  #expect(pio_kernels_named("") == nil)
  #expect(pio_kernels_named("avx") == nil)
  #expect(tables.contains(pio_kernels_best()))
}
