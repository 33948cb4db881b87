import CPIOKernels
import PIOFormat

/// Signal and noise of some weights: Σw² and Σ(w - ŵ)², ŵ being what the file will say.
struct Fidelity: Equatable, Sendable {
  var signal = 0.0
  var noise = 0.0

  static func += (total: inout Fidelity, part: Fidelity) {
    total.signal += part.signal
    total.noise += part.noise
  }
}

/// A weight that no file of ours may hold.
enum WeightProblem: Error, Equatable, Sendable {
  case notFinite(row: Int, column: Int)
  case outOfRange(row: Int, column: Int, value: Float)
}

/// Turns 16 rows of f32 into their bytes of the file; one for each worker, with its scratch.
///
/// The rows lie in `rows`, `stride` apart, which is the columns padded with zeros to the group.
final class BlockEncoder {
  let encoding: TensorEncoding
  let columns: Int
  let stride: Int
  let rows: UnsafeMutablePointer<Float>
  private let masks: UnsafeMutablePointer<Vector>
  private let codes: UnsafeMutablePointer<UInt8>
  private var scales = [UInt16](repeating: 0, count: 16)
  private var minima = [UInt16](repeating: 0, count: 16)
  private var given: (codes: BlockCodes, reader: RowReader)?

  init(encoding: TensorEncoding, columns: Int) {
    self.encoding = encoding
    self.columns = columns
    let unit = max(encoding.group, 8)
    stride = (columns + unit - 1) / unit * unit
    rows = .allocateAligned(16 * stride)
    rows.initialize(repeating: 0, count: 16 * stride)
    codes = .allocateAligned(16 * unit)
    codes.initialize(repeating: 0, count: 16 * unit)
    masks = .allocateAligned(unit / 8)
    // Only the last group of a row can have less than all.
    for i in 0..<unit / 8 {
      masks[i] = .zero
      for lane in 0..<8 where 8 * i + lane < columns - (stride - unit) { masks[i][lane] = 1 }
    }
    full = .allocateAligned(unit / 8)
    full.initialize(repeating: Vector(repeating: 1), count: unit / 8)
  }

  private let full: UnsafeMutablePointer<Vector>

  deinit {
    for pointer in [
      UnsafeMutableRawPointer(rows), UnsafeMutableRawPointer(codes),
      UnsafeMutableRawPointer(masks), UnsafeMutableRawPointer(full),
    ] { pointer.deallocate() }
  }

  /// Encodes the first `count` rows, `count` ≤ 16; the rows after them are padding of the block.
  ///
  /// `out` takes one row of blocks (`blocks16`) or `count` rows. `source`: whose codes, row by row,
  /// are taken over instead of new ones found.
  func encode(
    _ count: Int, from source: (codes: BlockCodes, reader: RowReader)? = nil,
    into out: UnsafeMutableRawPointer
  ) throws(WeightProblem) -> Fidelity {
    try checkFinite(count)
    given = source
    switch encoding.kind {
    case .f32, .f16, .bf16: return try encodeFloats(count, into: out)
    case .int8 where encoding.layout == .rows: return try encodeRows(count, into: out)
    case .int8, .int4, .int4Affine: return try encodeBlocks(count, into: out)
    }
  }

  private func checkFinite(_ count: Int) throws(WeightProblem) {
    for row in 0..<count {
      // Infinity and NaN times zero are NaN, everything else adds zero.
      var sum = Vector.zero
      vectors(row, 0).withMemoryRebound(to: Vector.self, capacity: stride / 8) { x in
        for i in 0..<stride / 8 { sum += x[i] * 0 }
      }
      guard sum.sum() != 0 else { continue }
      for column in 0..<columns where !rows[row * stride + column].isFinite {
        throw .notFinite(row: row, column: column)
      }
    }
  }

  private func vectors(_ row: Int, _ column: Int) -> UnsafeMutablePointer<Float> {
    rows + row * stride + column
  }

  private func group(_ row: Int, _ index: Int) -> WeightGroup {
    let start = UnsafeRawPointer(vectors(row, index * encoding.group))
    let isLast = (index + 1) * encoding.group == stride
    return WeightGroup(
      weights: start.assumingMemoryBound(to: Vector.self), mask: isLast ? masks : full,
      vectorCount: encoding.group / 8)
  }

  /// The first weight of largest magnitude, for the error message.
  private func outOfRange(_ row: Int, _ range: Range<Int>) -> WeightProblem {
    let column = range.max { abs(rows[row * stride + $0]) < abs(rows[row * stride + $1]) }!
    return .outOfRange(row: row, column: column, value: rows[row * stride + column])
  }
}

extension BlockEncoder {
  private func encodeFloats(
    _ count: Int, into out: UnsafeMutableRawPointer
  ) throws(WeightProblem) -> Fidelity {
    var fidelity = Fidelity()
    let size = encoding.kind == .f32 ? 4 : 2
    for row in 0..<count {
      let bytes = out + row * columns * size
      for column in 0..<columns {
        let weight = rows[row * stride + column]
        let stored: Float
        if encoding.kind == .f32 {
          stored = weight
          bytes.storeBytes(
            of: weight.bitPattern.littleEndian, toByteOffset: 4 * column, as: UInt32.self)
        } else {
          let isHalf = encoding.kind == .f16
          let bits = isHalf ? pio_f16_from_f32(weight) : pio_bf16_from_f32(weight)
          stored = isHalf ? pio_f16_to_f32(bits) : pio_bf16_to_f32(bits)
          guard stored.isFinite else {
            throw .outOfRange(row: row, column: column, value: weight)
          }
          bytes.storeBytes(of: bits.littleEndian, toByteOffset: 2 * column, as: UInt16.self)
        }
        fidelity.signal += Double(weight) * Double(weight)
        let difference = Double(weight) - Double(stored)
        fidelity.noise += difference * difference
      }
    }
    return fidelity
  }

  /// A row: its codes, padded to the group, then its scales.
  private func encodeRows(
    _ count: Int, into out: UnsafeMutableRawPointer
  ) throws(WeightProblem) -> Fidelity {
    var fidelity = Fidelity()
    let groups = stride / encoding.group
    for row in 0..<count {
      let bytes = out + row * (stride + 2 * groups)
      for index in 0..<groups {
        let codes = (bytes + index * encoding.group).assumingMemoryBound(to: UInt8.self)
        let (scale, _) = try encodeGroup(row, index, into: codes, &fidelity)
        bytes.storeBytes(
          of: scale.littleEndian, toByteOffset: stride + 2 * index, as: UInt16.self)
      }
    }
    return fidelity
  }

  private func encodeBlocks(
    _ count: Int, into out: UnsafeMutableRawPointer
  ) throws(WeightProblem) -> Fidelity {
    var fidelity = Fidelity()
    let size = blockByteCount(encoding)
    let absent: UInt8 = encoding.kind == .int8 ? 128 : encoding.kind == .int4 ? 8 : 0
    for row in count..<16 {
      (codes + row * encoding.group).update(repeating: absent, count: encoding.group)
      (scales[row], minima[row]) = (0, 0)
    }
    for index in 0..<stride / encoding.group {
      for row in 0..<count {
        (scales[row], minima[row]) = try encodeGroup(
          row, index, into: codes + row * encoding.group, &fidelity)
      }
      pio_pack_block(
        (out + index * size).assumingMemoryBound(to: UInt8.self), codes, scales, minima,
        UInt32(encoding.kind.rawValue), UInt32(encoding.group))
    }
    return fidelity
  }

  /// Writes a group's codes; f16 bits of its scale and minimum.
  private func encodeGroup(
    _ row: Int, _ index: Int, into codes: UnsafeMutablePointer<UInt8>, _ fidelity: inout Fidelity
  ) throws(WeightProblem) -> (scale: UInt16, minimum: UInt16) {
    if let given {
      let (scale, minimum) = given.codes.read(given.reader.bytes(row), index, into: codes)
      try check(row, index, codes, pio_f16_to_f32(scale), pio_f16_to_f32(minimum), &fidelity)
      return (scale, minimum)
    }
    let fit = try fit(row, index, &fidelity)
    let group = group(row, index)
    switch encoding.kind {
    case .int4: SymmetricQuantizer.int4.encode(group, fit, into: codes)
    case .int4Affine: AffineQuantizer().encode(group, fit, into: codes)
    default: SymmetricQuantizer.int8.encode(group, fit, into: codes)
    }
    return (fit.scale.bitPattern, fit.minimum.bitPattern)
  }

  /// Holds codes that were taken over against the weights the source's own rule gives.
  private func check(
    _ row: Int, _ index: Int, _ codes: UnsafePointer<UInt8>, _ scale: Float, _ minimum: Float,
    _ fidelity: inout Fidelity
  ) throws(WeightProblem) {
    let start = index * encoding.group
    guard scale.isFinite, minimum.isFinite else {
      throw outOfRange(row, start..<min(start + encoding.group, columns))
    }
    let zero = encoding.kind == .int8 ? 128 : encoding.kind == .int4 ? 8 : 0
    let weights = vectors(row, start)
    for i in 0..<encoding.group {
      let stored = scale * Float(Int(codes[i]) - zero) + minimum
      fidelity.signal += Double(weights[i]) * Double(weights[i])
      let difference = Double(weights[i]) - Double(stored)
      fidelity.noise += difference * difference
    }
  }

  private func fit(
    _ row: Int, _ index: Int, _ fidelity: inout Fidelity
  ) throws(WeightProblem) -> GroupFit {
    let group = group(row, index)
    let found =
      switch encoding.kind {
      case .int4: SymmetricQuantizer.int4.fit(group)
      case .int4Affine: AffineQuantizer().fit(group)
      default: SymmetricQuantizer.int8.fit(group)
      }
    let start = index * encoding.group
    guard let fit = found else {
      throw outOfRange(row, start..<min(start + encoding.group, columns))
    }
    for i in 0..<group.vectorCount {
      fidelity.signal += Double((group.weights[i] * group.weights[i]).sum())
    }
    fidelity.noise += Double(fit.error)
    return fit
  }
}

extension UnsafeMutablePointer {
  /// Uninitialized, on 64 bytes.
  fileprivate static func allocateAligned(_ count: Int) -> UnsafeMutablePointer {
    UnsafeMutableRawPointer.allocate(
      byteCount: count * MemoryLayout<Pointee>.stride, alignment: 64
    ).bindMemory(to: Pointee.self, capacity: count)
  }
}
