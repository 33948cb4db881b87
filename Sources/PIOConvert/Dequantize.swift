import CPIOKernels

/// The weights of `count / type.blockCount` blocks in f32.
///
/// Every product and sum is rounded where the reference rounds it: the same bits as `dequantize`
/// of the PyPI package gguf. With d and m the block's scale and minimum (f16), q a code:
/// Q4_0 d·(q − 8), Q5_0 d·(q − 16), Q8_0 d·q, Q4_1 and Q5_1 d·q + m; of blocks of 256, with 6-bit
/// scales s and minima t: Q4_K and Q5_K d·s·q − m·t a group of 32, Q6_K d·s·(q − 32) a group of 16.
func dequantize(
  _ type: WeightType, _ bytes: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>, count: Int
) {
  let kernels = pio_kernels_best()!.pointee
  switch type {
  case .f32: UnsafeMutableRawPointer(out).copyMemory(from: bytes, byteCount: 4 * count)
  case .f16: kernels.f16_to_f32(out, bytes.assumingMemoryBound(to: UInt16.self), count)
  case .bf16: kernels.bf16_to_f32(out, bytes.assumingMemoryBound(to: UInt16.self), count)
  default:
    for block in 0..<count / type.blockCount {
      let out = out + block * type.blockCount
      let bytes = (bytes + block * type.blockByteCount).assumingMemoryBound(to: UInt8.self)
      switch type {
      case .q40: symmetric4(bytes, out)
      case .q41: affine4(bytes, out)
      case .q50: symmetric5(bytes, out)
      case .q51: affine5(bytes, out)
      case .q80: symmetric8(bytes, out)
      case .q4K: superblock4(bytes, out)
      case .q5K: superblock5(bytes, out)
      default: superblock6(bytes, out)
      }
    }
  }
}

typealias BlockBytes = UnsafePointer<UInt8>
private typealias Weights = UnsafeMutablePointer<Float>

/// The f16 number at byte `offset`, as bits.
func halfBits(_ bytes: BlockBytes, _ offset: Int) -> UInt16 {
  UInt16(bytes[offset]) | UInt16(bytes[offset + 1]) << 8
}

private func half(_ bytes: BlockBytes, _ offset: Int) -> Float {
  pio_f16_to_f32(halfBits(bytes, offset))
}

private func symmetric4(_ bytes: BlockBytes, _ out: Weights) {
  let scale = half(bytes, 0)
  for i in 0..<16 {
    let byte = bytes[2 + i]
    out[i] = scale * Float(Int(byte & 15) - 8)
    out[i + 16] = scale * Float(Int(byte >> 4) - 8)
  }
}

private func affine4(_ bytes: BlockBytes, _ out: Weights) {
  let (scale, minimum) = (half(bytes, 0), half(bytes, 2))
  for i in 0..<16 {
    let byte = bytes[4 + i]
    out[i] = scale * Float(byte & 15) + minimum
    out[i + 16] = scale * Float(byte >> 4) + minimum
  }
}

/// Code `i` of a block of 32 five-bit codes: fifth bits from byte `high` on, the others from `low`.
@inline(__always)
func code5(_ bytes: BlockBytes, high: Int, low: Int, _ i: Int) -> UInt8 {
  let byte = bytes[low + i % 16]
  return (i < 16 ? byte & 15 : byte >> 4) | ((bytes[high + i / 8] >> UInt8(i % 8)) & 1) << 4
}

private func symmetric5(_ bytes: BlockBytes, _ out: Weights) {
  let scale = half(bytes, 0)
  for i in 0..<32 { out[i] = scale * Float(Int(code5(bytes, high: 2, low: 6, i)) - 16) }
}

private func affine5(_ bytes: BlockBytes, _ out: Weights) {
  let (scale, minimum) = (half(bytes, 0), half(bytes, 2))
  for i in 0..<32 { out[i] = scale * Float(code5(bytes, high: 4, low: 8, i)) + minimum }
}

private func symmetric8(_ bytes: BlockBytes, _ out: Weights) {
  let scale = half(bytes, 0)
  for i in 0..<32 { out[i] = scale * Float(Int8(bitPattern: bytes[2 + i])) }
}

// MARK: Blocks of 256

/// Scale and minimum of group `j` of 32, products of the block's f16 numbers and 6-bit ones, both
/// exact in f32.
///
/// The 6-bit numbers of groups 0…3 are the low bits of bytes 4 + j and 8 + j; those of groups 4…7
/// have their low four bits in byte 8 + j and their high two above the others'.
func superblockScale(_ bytes: BlockBytes, _ j: Int) -> (scale: Float, minimum: Float) {
  let packed = bytes + 4
  let (scale, minimum): (UInt8, UInt8)
  if j < 4 {
    (scale, minimum) = (packed[j] & 63, packed[j + 4] & 63)
  } else {
    scale = packed[j + 4] & 15 | (packed[j - 4] >> 6) << 4
    minimum = packed[j + 4] >> 4 | (packed[j] >> 6) << 4
  }
  return (half(bytes, 0) * Float(scale), half(bytes, 2) * Float(minimum))
}

private func superblock4(_ bytes: BlockBytes, _ out: Weights) {
  for j in 0..<8 {
    let (scale, minimum) = superblockScale(bytes, j)
    for i in 0..<32 {
      out[32 * j + i] = scale * Float(code4K(bytes, j, i)) - minimum
    }
  }
}

/// Code `i` of group `j` of a Q4_K block.
@inline(__always)
func code4K(_ bytes: BlockBytes, _ j: Int, _ i: Int) -> UInt8 {
  bytes[16 + 32 * (j / 2) + i] >> UInt8(4 * (j % 2)) & 15
}

private func superblock5(_ bytes: BlockBytes, _ out: Weights) {
  for j in 0..<8 {
    let (scale, minimum) = superblockScale(bytes, j)
    for i in 0..<32 {
      let low = bytes[48 + 32 * (j / 2) + i] >> UInt8(4 * (j % 2)) & 15
      let high = bytes[16 + i] >> UInt8(j) & 1
      out[32 * j + i] = scale * Float(low | high << 4) - minimum
    }
  }
}

private func superblock6(_ bytes: BlockBytes, _ out: Weights) {
  let scale = half(bytes, 208)
  for i in 0..<256 {
    // Halves of 128; within one, quarters of 32 share bytes.
    let (part, quarter, l) = (i / 128, i % 128 / 32, i % 32)
    let low = bytes[64 * part + 32 * (quarter % 2) + l] >> UInt8(4 * (quarter / 2)) & 15
    let high = bytes[128 + 32 * part + l] >> UInt8(2 * quarter) & 3
    let product = scale * Float(Int8(bitPattern: bytes[192 + i / 16]))
    out[i] = product * Float(Int(low | high << 4) - 32)
  }
}
