import CPIOKernels
import Foundation
import Testing

private let unit = 0x1p-24  // half a unit in the last place of 1

/// Lengths around every vector width.
private let counts = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257]

/// Runs `operation` on a copy of `x` that is followed by sentinels, which must stay.
private func inPlace(_ x: [Float], _ operation: (UnsafeMutablePointer<Float>) -> Void) -> [Float] {
  var padded = x + [Float](repeating: 4321, count: 40)
  padded.withUnsafeMutableBufferPointer { operation($0.baseAddress!) }
  #expect(padded[x.count...].allSatisfy { $0 == 4321 }, "wrote behind the end")
  return Array(padded.prefix(x.count))
}

@Test(arguments: counts)
func rmsNormIsWithinItsBound(dim: Int) {
  var random = Random(dim)
  let x = random.floats(dim, -4...4), weight = random.floats(dim), epsilon = 1e-5
  let mean = x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(dim)
  for table in tables {
    let out = inPlace(x) { table.pointee.rms_norm($0, $0, weight, Float(epsilon), dim) }
    for i in 0..<dim {
      let exact = Double(weight[i]) * Double(x[i]) / (mean + epsilon).squareRoot()
      let bound = Double(dim + 16) * unit * abs(exact)
      #expect(abs(Double(out[i]) - exact) <= bound, "\(name(table)) \(i)")
    }
  }
}

@Test(arguments: counts)
func layerNormIsWithinItsBound(dim: Int) {
  var random = Random(dim)
  let x = random.floats(dim, -1...5), weight = random.floats(dim), bias = random.floats(dim)
  let epsilon = 1e-5, mean = x.reduce(0.0) { $0 + Double($1) } / Double(dim)
  let variance = x.reduce(0.0) { $0 + pow(Double($1) - mean, 2) } / Double(dim)
  let deviation = (variance + epsilon).squareRoot()
  for table in tables {
    let out = inPlace(x) {
      table.pointee.layer_norm($0, $0, weight, bias, Float(epsilon), dim)
    }
    for i in 0..<dim {
      let z = (Double(x[i]) - mean) / deviation
      let exact = Double(weight[i]) * z + Double(bias[i])
      let size = abs(Double(weight[i])) * (abs(z) + 5 / deviation) + abs(Double(bias[i]))
      #expect(abs(Double(out[i]) - exact) <= Double(dim + 16) * unit * size, "\(name(table)) \(i)")
    }
  }
}

@Test(arguments: [2, 6, 8, 16, 34, 64, 128], [1, 3])
func ropeRotatesPairsOfHalves(headDim: Int, heads: Int) {
  var random = Random(headDim)
  let half = headDim / 2, angles = random.floats(half, -3...3)
  let cosines = angles.map { cos($0) }, sines = angles.map { sin($0) }
  let x = random.floats(heads * headDim)
  let scalar = inPlace(x) { tables[0].pointee.rope($0, cosines, sines, heads, headDim) }
  for h in 0..<heads {
    for i in 0..<half {
      let a = Double(x[h * headDim + i]), b = Double(x[h * headDim + half + i])
      let c = Double(cosines[i]), s = Double(sines[i])
      #expect(abs(Double(scalar[h * headDim + i]) - (a * c - b * s)) <= 4 * unit)
      #expect(abs(Double(scalar[h * headDim + half + i]) - (b * c + a * s)) <= 4 * unit)
    }
  }
  for table in tables {
    let out = inPlace(x) { table.pointee.rope($0, cosines, sines, heads, headDim) }
    #expect(bits(out) == bits(scalar), "\(name(table))")
  }
}

private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

private let activations: [@Sendable (Double) -> Double] = [
  { 0.5 * $0 * (1 + erf($0 / 2.0.squareRoot())) },
  { $0 * sigmoid(2 * (2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0)) },
  { $0 * sigmoid(1.702 * $0) },
]

/// From the smallest to the largest magnitudes, both signs.
private let sweep: [Float] = {
  var values: [Float] = [0, -0.0, .infinity, 1e30, -1e30, 88, -88, 90, -90, 4, -4, 1, -1]
  for i in -3000...3000 { values.append(Float(i) / 250) }
  for exponent in -40...6 { values += [exp2(Float(exponent)), -exp2(Float(exponent)) * 1.37] }
  return values
}()

@Test(arguments: 0..<3)
func activationsAreWithinTheirBound(kind: Int) {
  let scalar = inPlace(sweep) { tables[0].pointee.activate($0, sweep.count, Int32(kind)) }
  for (x, y) in zip(sweep, scalar) where x.isFinite {
    let exact = activations[kind](Double(x)), bound = 0x1p-21 * abs(Double(x))
    #expect(abs(Double(y) - exact) <= bound, "\(kind): \(x) gave \(y), not \(exact)")
  }
  for table in tables {
    let out = inPlace(sweep) { table.pointee.activate($0, sweep.count, Int32(kind)) }
    #expect(bits(out) == bits(scalar), "\(name(table))")
    let bad = inPlace([1, .nan, 2]) { table.pointee.activate($0, 3, Int32(kind)) }
    #expect(bad.map(\.isNaN) == [false, true, false])
  }
}

@Test func siluMulIsWithinItsBound() {
  var random = Random(1)
  let up = random.floats(sweep.count)
  let scalar = inPlace(sweep) { tables[0].pointee.silu_mul($0, up, sweep.count) }
  for i in sweep.indices where sweep[i].isFinite {
    let x = Double(sweep[i]), exact = x * sigmoid(x) * Double(up[i])
    #expect(abs(Double(scalar[i]) - exact) <= 0x1p-21 * abs(exact) + 1e-35)
  }
  for table in tables {
    let out = inPlace(sweep) { table.pointee.silu_mul($0, up, sweep.count) }
    #expect(bits(out) == bits(scalar), "\(name(table))")
  }
}

@Test(arguments: counts)
func addAdds(count: Int) {
  var random = Random(count)
  let x = random.floats(count), y = random.floats(count)
  for table in tables {
    #expect(inPlace(y) { table.pointee.add($0, x, count) } == zip(x, y).map { $0 + $1 })
  }
}

@Test(arguments: [1, 2, 5, 6, 7, 8, 9, 13, 19])
func gemmF32IsWithinItsBound(tokens: Int) {
  var random = Random(tokens)
  for (rows, cols) in [(1, 1), (5, 3), (16, 16), (24, 256), (33, 257), (70, 300), (32, 520)] {
    let (wStride, xStride, yStride) = (cols + 2, cols + 1, rows + 3)
    let w = random.floats(rows * wStride), x = random.floats(tokens * xStride)
    let bias = tokens % 2 == 0 ? random.floats(rows) : nil
    let before = random.floats(tokens * yStride)
    for (table, accumulate) in tables.flatMap({ [($0, false), ($0, true)] }) {
      let y = inPlace(before) { out in
        func run(_ bias: UnsafePointer<Float>?) {
          table.pointee.gemm_f32(
            out, yStride, w, wStride, x, xStride, tokens, rows, cols, bias, accumulate ? 1 : 0)
        }
        if let bias { bias.withUnsafeBufferPointer { run($0.baseAddress) } } else { run(nil) }
      }
      for (i, found) in y.enumerated() {
        let t = i / yStride, row = i % yStride
        guard row < rows else {
          #expect(found == before[i])
          continue
        }
        var exact = Double(bias?[row] ?? 0) + (accumulate ? Double(before[i]) : 0)
        var size = abs(exact) + 2
        for c in 0..<cols {
          let term = Double(w[row * wStride + c]) * Double(x[t * xStride + c])
          exact += term
          size += abs(term)
        }
        #expect(
          abs(Double(found) - exact) <= Double(cols + 4) * unit * size,
          "\(name(table)) \(rows) x \(cols) at \(t), \(row)")
      }
    }
  }
}
