import CPIOKernels
import Foundation
import Testing

private let unit = 0x1p-24  // half a unit in the last place of 1

/// Lengths around every vector width.
private let counts = [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 33, 64, 100, 257]

private func sigmoid(_ x: Double) -> Double { 1 / (1 + exp(-x)) }

/// Runs `operation` on a copy of `x` that is followed by sentinels, which must stay.
private func inPlace(_ x: [Float], _ operation: (UnsafeMutablePointer<Float>) -> Void) -> [Float] {
  var padded = x + [Float](repeating: 4321, count: 40)
  padded.withUnsafeMutableBufferPointer { operation($0.baseAddress!) }
  #expect(padded[x.count...].allSatisfy { $0 == 4321 }, "wrote behind the end")
  return Array(padded.prefix(x.count))
}

@Test(arguments: counts)
func rmsNormBackIsWithinItsBound(dim: Int) {
  var random = Random(dim)
  let x = random.floats(dim, -4...4), weight = random.floats(dim), u = random.floats(dim)
  let epsilon = 1e-5
  let mean = x.reduce(0.0) { $0 + Double($1) * Double($1) } / Double(dim)
  let r = (mean + epsilon).squareRoot()
  let terms = (0..<dim).map { Double(x[$0]) * Double(weight[$0]) * Double(u[$0]) }
  let dot = terms.reduce(0, +), size = terms.reduce(0) { $0 + abs($1) }
  for table in tables {
    let out = inPlace(u) {
      table.pointee.gradients.rms_norm_back($0, $0, x, weight, Float(epsilon), dim)
    }
    for i in 0..<dim {
      let first = Double(weight[i]) * Double(u[i]) / r, cube = Double(dim) * r * r * r
      let exact = first - Double(x[i]) * dot / cube
      let bound = Double(dim + 16) * 2 * unit * (abs(first) + abs(Double(x[i])) * size / cube)
      #expect(abs(Double(out[i]) - exact) <= bound, "\(name(table)) \(i)")
    }
  }
}

/// The derivative of a function of one number among `x`, by central differences.
private func slope(_ x: [Float], at index: Int, _ function: ([Double]) -> Double) -> Double {
  var moved = x.map(Double.init)
  let step = 1e-6
  moved[index] += step
  let above = function(moved)
  moved[index] -= 2 * step
  return (above - function(moved)) / (2 * step)
}

@Test func rmsNormBackIsTheSlopeOfRMSNorm() {
  var random = Random(3)
  let dim = 24
  let x = random.floats(dim, -2...2), weight = random.floats(dim), u = random.floats(dim)
  var out = u
  tables[0].pointee.gradients.rms_norm_back(&out, u, x, weight, 1e-5, dim)
  for i in 0..<dim {
    let numeric = slope(x, at: i) { x in
      let inverse = 1 / (x.reduce(0) { $0 + $1 * $1 } / Double(dim) + 1e-5).squareRoot()
      return (0..<dim).reduce(0.0) {
        $0 + Double(u[$1]) * Double(weight[$1]) * x[$1] * inverse
      }
    }
    #expect(abs(Double(out[i]) - numeric) <= 1e-5)
  }
}

@Test(arguments: [2, 6, 8, 16, 34, 64, 128], [1, 3])
func ropeBackUndoesRope(headDim: Int, heads: Int) {
  var random = Random(headDim)
  let angles = random.floats(headDim / 2, -3...3)
  let cosines = angles.map { cos($0) }, sines = angles.map { sin($0) }
  let x = random.floats(heads * headDim)
  let scalar = inPlace(x) {
    tables[0].pointee.gradients.rope_back($0, cosines, sines, heads, headDim)
  }
  for table in tables {
    let back = inPlace(x) {
      table.pointee.gradients.rope_back($0, cosines, sines, heads, headDim)
    }
    #expect(bits(back) == bits(scalar), "\(name(table))")
    let there = inPlace(back) { table.pointee.rope($0, cosines, sines, heads, headDim) }
    for (a, b) in zip(there, x) { #expect(abs(a - b) <= 1e-6) }
  }
}

@Test(arguments: counts)
func siluMulBackIsWithinItsBound(count: Int) {
  var random = Random(count)
  var gate = random.floats(count, -12...12)
  gate[0] = [-100, 0, 100][count % 3]
  let up = random.floats(count, -3...3), dy = random.floats(count)
  for table in tables {
    var found = up
    let gates = inPlace(gate) { table.pointee.gradients.silu_mul_back($0, &found, dy, count) }
    for i in 0..<count {
      let (g, u, d) = (Double(gate[i]), Double(up[i]), Double(dy[i]))
      let s = sigmoid(g), bound = 0x1p-20 * (1 + abs(g)) * abs(d) * max(abs(u), 1)
      #expect(abs(Double(gates[i]) - d * u * s * (1 + g * (1 - s))) <= bound, "\(name(table))")
      #expect(abs(Double(found[i]) - d * g * s) <= bound, "\(name(table))")
    }
  }
}

@Test(arguments: counts)
func softmaxIsWithinItsBound(count: Int) {
  var random = Random(count)
  let x = random.floats(count, -20...20), scale: Float = 0.37
  let scaled = x.map { Double($0) * Double(scale) }, most = scaled.max()!
  let total = scaled.reduce(0) { $0 + exp($1 - most) }
  let bound = 0x1p-21 * (1 + most - scaled.min()!)
  for table in tables {
    let out = inPlace(x) { table.pointee.gradients.softmax($0, scale, count) }
    for i in 0..<count {
      #expect(abs(Double(out[i]) - exp(scaled[i] - most) / total) <= bound, "\(name(table))")
    }
  }
}

@Test(arguments: counts)
func exponentialsAndTheirSumAreWithinTheirBounds(count: Int) {
  var random = Random(count)
  var x = random.floats(count, -40...9)
  if count > 1 { x[count / 2] = -.infinity }
  let most: Float = 9
  let exact = x.map { exp(Double($0) - Double(most)) }
  for table in tables {
    var sum: Float = 0
    let out = inPlace(x) { sum = table.pointee.gradients.exponentials($0, most, count) }
    var bound = 0.0
    for i in 0..<count {
      let error = x[i].isFinite ? 0x1p-21 * (1 + Double(most - x[i])) * exact[i] : 0
      #expect(abs(Double(out[i]) - exact[i]) <= error, "\(name(table)) \(i)")
      bound += error
    }
    let total = exact.reduce(0, +)
    #expect(abs(Double(sum) - total) <= bound + Double(count) * unit * total, "\(name(table))")
  }
}

@Test(arguments: [PIO_F32, PIO_F16, PIO_KV_INT8].map(\.rawValue), [6, 8, 34, 64])
func kvReadReturnsWhatWasStored(kind: UInt32, headDim: Int) {
  var random = Random(headDim)
  let capacity = 21, first = 4, count = 15
  for table in tables {
    var keyBytes = [UInt8](repeating: 0, count: capacity * headDim * 4), valueBytes = keyBytes
    var keyScales = [Float](repeating: 0, count: capacity), valueScales = keyScales
    let keys = (0..<capacity).map { _ in random.floats(headDim) }
    let values = (0..<capacity).map { _ in random.floats(headDim, -3...3) }
    var read = [[Float]](repeating: [Float](repeating: 0, count: count * headDim + 1), count: 2)
    keyBytes.withUnsafeMutableBytes { k in
      valueBytes.withUnsafeMutableBytes { v in
        keyScales.withUnsafeMutableBufferPointer { ks in
          valueScales.withUnsafeMutableBufferPointer { vs in
            var kv = pio_kv(
              keys: k.baseAddress, values: v.baseAddress, key_scales: ks.baseAddress,
              value_scales: vs.baseAddress, kind: kind, head_dim: UInt32(headDim))
            for i in 0..<capacity { table.pointee.kv_store(&kv, i, keys[i], values[i]) }
            for plane in 0..<2 {
              read[plane].withUnsafeMutableBufferPointer {
                table.pointee.gradients.kv_read($0.baseAddress, &kv, Int32(plane), first, count)
              }
            }
          }
        }
      }
    }
    let step: Float = kind == PIO_F32.rawValue ? 0 : kind == PIO_F16.rawValue ? 0x1p-11 : 0.5 / 127
    for (plane, rows) in [keys, values].enumerated() {
      #expect(read[plane].last == 0, "wrote behind the end")
      for i in 0..<(count * headDim) {
        let row = rows[first + i / headDim], exact = row[i % headDim]
        let size = kind == PIO_F16.rawValue ? abs(exact) : row.map(abs).max()!
        #expect(abs(read[plane][i] - exact) <= step * size * 1.001 + 1e-7, "\(name(table))")
      }
    }
  }
}
