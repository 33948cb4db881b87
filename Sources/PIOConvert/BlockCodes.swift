import CPIOKernels
import PIOFormat

/// A source's own codes and scales of a group of 32, where our file can take them over.
///
/// Q4_0, Q4_1, Q5_0 and Q8_0 lose nothing so. Of Q4_K the codes stay; its scales and minima,
/// products of an f16 and a 6-bit number, are rounded to f16.
struct BlockCodes {
  let type: WeightType
  let kind: TensorKind

  /// Nil where the codes of `type` are none of `encoding`.
  init?(_ type: WeightType, _ encoding: TensorEncoding) {
    guard encoding.group == 32, Self.fit(type, encoding.kind) else { return nil }
    (self.type, kind) = (type, encoding.kind)
  }

  static func fit(_ type: WeightType, _ kind: TensorKind) -> Bool {
    switch (type, kind) {
    case (.q40, .int4), (.q40, .int8), (.q50, .int8), (.q80, .int8), (.q41, .int4Affine),
      (.q4K, .int4Affine):
      true
    default: false
    }
  }

  /// Writes the 32 codes of group `index` of a row; f16 bits of its scale and minimum.
  func read(
    _ row: UnsafeRawPointer, _ index: Int, into codes: UnsafeMutablePointer<UInt8>
  ) -> (scale: UInt16, minimum: UInt16) {
    let groups = type.blockCount / 32
    let block = (row + index / groups * type.blockByteCount).assumingMemoryBound(to: UInt8.self)
    switch type {
    case .q40:
      nibbles(block + 2, plus: kind == .int8 ? 120 : 0, into: codes)
      return (halfBits(block, 0), 0)
    case .q41:
      nibbles(block + 4, plus: 0, into: codes)
      return (halfBits(block, 0), halfBits(block, 2))
    case .q50:
      for i in 0..<32 { codes[i] = code5(block, high: 2, low: 6, i) + 112 }
      return (halfBits(block, 0), 0)
    case .q4K:
      let group = index % groups
      for i in 0..<32 { codes[i] = code4K(block, group, i) }
      let (scale, minimum) = superblockScale(block, group)
      return (pio_f16_from_f32(scale), pio_f16_from_f32(-minimum))
    default:  // Q8_0
      for i in 0..<32 { codes[i] = block[2 + i] &+ 128 }
      return (halfBits(block, 0), 0)
    }
  }

  private func nibbles(
    _ bytes: BlockBytes, plus zero: UInt8, into codes: UnsafeMutablePointer<UInt8>
  ) {
    for i in 0..<16 {
      codes[i] = bytes[i] & 15 + zero
      codes[i + 16] = bytes[i] >> 4 + zero
    }
  }
}
