import CPIOKernels
import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

/// Numbers that look like weights, from a generator that is the same everywhere.
struct WeightSource {
  var state: UInt64

  mutating func uniform() -> Float {
    state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
    return Float(state >> 40) / Float(1 << 24)
  }

  /// Roughly normal, with a long tail now and then.
  mutating func weight() -> Float {
    let sum = (0..<6).reduce(Float(0)) { total, _ in total + uniform() } - 3
    return uniform() < 0.02 ? sum * 4 : sum
  }

  mutating func weights(_ count: Int, scale: Float = 0.02) -> [Float] {
    (0..<count).map { _ in weight() * scale }
  }
}

/// Encodes `rows × columns` and reads the file's bytes back.
struct RoundTrip {
  var fidelity: Fidelity
  var result: [Float]
  var bytes: [UInt8]

  /// `kind` in kernel layout; `weights` are 16 rows at most.
  init(_ weights: [Float], columns: Int, kind: TensorKind, group: Int) throws {
    let encoding = TensorEncoding(kind: kind, layout: .blocks16, group: group)
    let rows = weights.count / columns
    let encoder = BlockEncoder(encoding: encoding, columns: columns)
    for row in 0..<rows {
      for column in 0..<columns {
        encoder.rows[row * encoder.stride + column] = weights[row * columns + column]
      }
    }
    let count = byteCount(encoding, TensorShape(rows: rows, columns: columns))!
    let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: count, alignment: 64)
    defer { storage.deallocate() }
    fidelity = try encoder.encode(rows, into: storage.baseAddress!)
    bytes = Array(storage)
    var matrix = pio_matrix(
      blocks: storage.baseAddress!.assumingMemoryBound(to: UInt8.self), rows: rows, cols: columns,
      group: UInt32(group), quant: UInt32(kind.rawValue))
    result = [Float](repeating: .nan, count: weights.count)
    pio_dequantize_rows(&result, columns, &matrix, 0, rows)
  }
}

private let kinds: [TensorKind] = [.int4, .int4Affine, .int8]

private func squaredError(_ a: [Float], _ b: [Float]) -> Double {
  zip(a, b).reduce(0) { $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1) }
}

@Suite struct QuantizerTests {
  @Test(arguments: kinds, [32, 64, 128])
  func theReportedNoiseIsThatOfTheBytes(kind: TensorKind, group: Int) throws {
    var source = WeightSource(state: 1)
    for (rows, columns) in [(16, 256), (5, 100), (1, 1), (16, 588)] {
      let weights = source.weights(rows * columns)
      let trip = try RoundTrip(weights, columns: columns, kind: kind, group: group)
      let noise = squaredError(weights, trip.result)
      #expect(abs(noise - trip.fidelity.noise) <= 1e-4 * noise + 1e-12)
      let signal = weights.reduce(0) { $0 + Double($1) * Double($1) }
      #expect(abs(signal - trip.fidelity.signal) <= 1e-5 * signal)
    }
  }

  /// The plain rules that the search has to beat: max-abs, and the full range.
  static func plain(_ weights: ArraySlice<Float>, _ kind: TensorKind) -> Double {
    let low = kind == .int8 ? Float(-128) : kind == .int4 ? -8 : 0
    let high: Float = kind == .int8 ? 127 : kind == .int4 ? 7 : 15
    var (scale, minimum) = (Float(Float16(weights.map(abs).max()! / high)), Float(0))
    if kind == .int4Affine {
      scale = Float(Float16((weights.max()! - weights.min()!) / high))
      minimum = Float(Float16(weights.min()!))
    }
    return weights.reduce(0) { total, w in
      let q =
        scale == 0 ? 0 : min(max(((w - minimum) / scale).rounded(.toNearestOrEven), low), high)
      let difference = Double(w) - Double(q * scale + minimum)
      return total + difference * difference
    }
  }

  @Test(arguments: kinds, [32, 64, 128])
  func isNeverWorseThanThePlainRule(kind: TensorKind, group: Int) throws {
    var source = WeightSource(state: 7)
    var (found, plain) = (0.0, 0.0)
    for scale: Float in [1e-7, 1e-5, 1e-3, 0.02, 1, 300, 3000] {
      for _ in 0..<100 {
        let weights = source.weights(group, scale: scale)
        let trip = try RoundTrip(weights, columns: group, kind: kind, group: group)
        let bound = Self.plain(weights[...], kind)
        #expect(trip.fidelity.noise <= bound * (1 + 1e-4))
        if scale == 0.02 { (found, plain) = (found + trip.fidelity.noise, plain + bound) }
      }
    }
    // And on the whole it is better by far at four bits.
    if kind != .int8 { #expect(found < 0.9 * plain) }
  }

  @Test(arguments: kinds)
  func keepsGroupsWithoutSpread(kind: TensorKind) throws {
    for value: Float in [0, 0.5, -0.5, 1, -3.25, 1e-3] {
      let weights = [Float](repeating: value, count: 32)
      let trip = try RoundTrip(weights, columns: 32, kind: kind, group: 32)
      for w in trip.result { #expect(abs(w - value) <= abs(value) / 1000, "\(value): \(w)") }
    }
  }

  @Test(arguments: kinds)
  func keepsWhatGGUFStoresWithoutLoss(kind: TensorKind) throws {
    // Scales and codes as Q4_0, Q4_1 and Q8_0 have them; both ends of the codes occur.
    let (low, high): (Int, Int) =
      kind == .int8 ? (-127, 127) : kind == .int4 ? (-8, 7) : (0, 15)
    var source = WeightSource(state: 3)
    // Subnormal, about 3e-5: as a literal the compiler refuses it where Float16 is native.
    let tiny = Float16(bitPattern: 0x01f7)
    for scale: Float16 in [0.0123, -0.0123, 1.5, tiny] where kind == .int4 || scale > 0 {
      let minimum = kind == .int4Affine ? Float(Float16(-0.37)) * Float(scale) : 0
      let rounded = Float(Float16(minimum))
      let codes = (0..<32).map { i in
        i == 0 ? low : i == 1 ? high : low + Int(source.uniform() * Float(high - low + 1))
      }
      let weights = codes.map { Float($0) * Float(scale) + rounded }
      let trip = try RoundTrip(weights, columns: 32, kind: kind, group: 32)
      let signal = weights.reduce(0) { $0 + Double($1) * Double($1) }
      #expect(trip.fidelity.noise <= signal * 1e-6, "\(scale)")
    }
  }

  @Test(arguments: kinds)
  func survivesDenormals(kind: TensorKind) throws {
    var source = WeightSource(state: 11)
    for scale: Float in [Float.leastNonzeroMagnitude, 1e-30, 1e-12, 3e-8, 6e-8] {
      let weights = source.weights(64, scale: scale)
      let trip = try RoundTrip(weights, columns: 64, kind: kind, group: 32)
      for (w, found) in zip(weights, trip.result) {
        #expect(abs(w - found) <= abs(w) + Float(Float16.leastNonzeroMagnitude))
      }
    }
  }

  @Test(arguments: [
    (TensorKind.int4, Float(65504 * 7)), (.int8, Float(65504 * 127)), (.int4Affine, Float(65504)),
  ])
  func refusesWhatAnF16ScaleCannotReach(kind: TensorKind, limit: Float) throws {
    var weights = [Float](repeating: 1, count: 64)
    weights[40] = -limit
    _ = try RoundTrip(weights, columns: 64, kind: kind, group: 32)
    weights[40] = -limit * 1.01
    let refusal = WeightProblem.outOfRange(row: 0, column: 40, value: -limit * 1.01)
    #expect(throws: refusal) { try RoundTrip(weights, columns: 64, kind: kind, group: 32) }
  }

  @Test(arguments: kinds, [Float.nan, .infinity, -.infinity])
  func refusesWhatIsNotFinite(kind: TensorKind, value: Float) throws {
    var weights = [Float](repeating: 1, count: 3 * 70)
    weights[2 * 70 + 69] = value
    #expect(throws: WeightProblem.notFinite(row: 2, column: 69)) {
      try RoundTrip(weights, columns: 70, kind: kind, group: 64)
    }
  }

  /// Codes of rows and columns that are not there: those the kernels expect.
  @Test(arguments: kinds)
  func paddingHasTheCodeOfZero(kind: TensorKind) throws {
    let (rows, columns, group) = (3, 40, 32)
    var source = WeightSource(state: 5)
    let trip = try RoundTrip(
      source.weights(rows * columns), columns: columns, kind: kind, group: group)
    let size = blockByteCount(TensorEncoding(kind: kind, layout: .blocks16, group: group))
    let absent: UInt8 = kind == .int8 ? 128 : kind == .int4 ? 8 : 0
    for row in 0..<16 {
      for column in 0..<2 * group where row >= rows || column >= columns {
        let (block, at) = (column / group * size, column % group)
        let code: UInt8
        if kind == .int8 {
          code = trip.bytes[block + 64 * (at / 4) + 4 * row + at % 4]
        } else {
          let byte = trip.bytes[block + 64 * (at % 16 / 4) + 4 * row + at % 4]
          code = at < 16 ? byte & 15 : byte >> 4
        }
        #expect(code == absent, "row \(row), column \(column)")
      }
    }
    let scales = size - (kind == .int4Affine ? 64 : 32)
    for row in rows..<16 { #expect(trip.bytes[scales + 2 * row] == 0) }
  }
}
