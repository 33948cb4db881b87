import CPIOKernels

/// Every table this machine can run, the scalar one first.
nonisolated(unsafe) let tables: [UnsafePointer<pio_kernels>] =
  Array(
    sequence(state: 0) { index in
      defer { index += 1 }
      return pio_kernels_runnable(index)
    })

func name(_ table: UnsafePointer<pio_kernels>) -> String { String(cString: table.pointee.isa) }

/// SplitMix64: the same numbers on every machine.
struct Random: RandomNumberGenerator {
  private var state: UInt64

  init(_ seed: Int) { state = UInt64(seed) &* 0x9e37_79b9_7f4a_7c15 }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var z = state
    z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
    z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
    return z ^ (z >> 31)
  }

  mutating func float(_ range: ClosedRange<Float> = -1...1) -> Float {
    Float.random(in: range, using: &self)
  }

  mutating func floats(_ count: Int, _ range: ClosedRange<Float> = -1...1) -> [Float] {
    (0..<count).map { _ in float(range) }
  }

  mutating func int(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &self) }
}

/// Bits, with every NaN alike: which NaN comes out is nobody's promise.
func bits(_ values: [Float]) -> [UInt32] {
  values.map { $0.isNaN ? 0x7fc0_0000 : $0.bitPattern }
}

func halfBits(_ x: Float) -> UInt16 { pio_f16_from_f32(x) }

/// A weight matrix: its codes as they were drawn, and packed into blocks.
struct Weights {
  let rows: Int
  let cols: Int
  let group: Int
  let quant: pio_quant
  let groups: Int
  var codes: [[UInt8]]  // (rows, cols)
  var scales: [[UInt16]]  // (rows, groups), f16 bits
  var minima: [[UInt16]]
  private(set) var blocks: [UInt8] = []

  var zero: Int { quant == PIO_INT8 ? 128 : quant == PIO_INT4 ? 8 : 0 }
  var isAffine: Bool { quant == PIO_INT4_AFFINE }

  init(
    rows: Int, cols: Int, group: Int, quant: pio_quant, random: inout Random, code: UInt8? = nil
  ) {
    self.rows = rows
    self.cols = cols
    self.group = group
    self.quant = quant
    let groups = (cols + group - 1) / group
    self.groups = groups
    let top = quant == PIO_INT8 ? 255 : 15
    codes = (0..<rows).map { _ in
      (0..<cols).map { _ in code ?? UInt8(random.int(0...top)) }
    }
    scales = (0..<rows).map { _ in (0..<groups).map { _ in halfBits(random.float(-0.1...0.1)) } }
    minima = (0..<rows).map { _ in (0..<groups).map { _ in halfBits(random.float()) } }
    pack()
  }

  /// Packs with the values for missing rows and columns that the format prescribes.
  mutating func pack() {
    let blockBytes = pio_block_bytes(quant.rawValue, UInt32(group))
    let rowBlocks = (rows + 15) / 16
    var packed = [UInt8](repeating: 0, count: rowBlocks * groups * blockBytes)
    for block in 0..<rowBlocks {
      for g in 0..<groups {
        var part = [UInt8](repeating: UInt8(zero), count: 16 * group)
        var partScales = [UInt16](repeating: 0, count: 16)
        var partMinima = partScales
        for r in 0..<16 where block * 16 + r < rows {
          let row = block * 16 + r
          partScales[r] = scales[row][g]
          partMinima[r] = minima[row][g]
          for c in 0..<group where g * group + c < cols {
            part[r * group + c] = codes[row][g * group + c]
          }
        }
        packed.withUnsafeMutableBufferPointer {
          pio_pack_block(
            $0.baseAddress! + (block * groups + g) * blockBytes, part, partScales, partMinima,
            quant.rawValue, UInt32(group))
        }
      }
    }
    blocks = packed
  }

  func withMatrix<R>(_ body: (UnsafePointer<pio_matrix>) -> R) -> R {
    blocks.withUnsafeBufferPointer { bytes in
      var matrix = pio_matrix(
        blocks: bytes.baseAddress, rows: rows, cols: cols, group: UInt32(group),
        quant: quant.rawValue)
      return body(&matrix)
    }
  }
}

/// Activations as `pio_quantize` writes them.
struct Activations: Equatable {
  var values: [Int8]
  var scales: [Float]
  var sums: [Int32]
  let groups: Int
  let group: Int

  init(
    _ table: UnsafePointer<pio_kernels>, _ x: [Float], stride: Int, tokens: Int, cols: Int,
    group: Int
  ) {
    groups = (cols + group - 1) / group
    self.group = group
    values = Array(repeating: 99, count: tokens * groups * group)
    scales = Array(repeating: 99, count: tokens * groups)
    sums = Array(repeating: 99, count: tokens * groups)
    withActivations { table.pointee.quantize($0, x, stride, tokens, cols, UInt32(group)) }
  }

  mutating func withActivations<R>(_ body: (pio_activations) -> R) -> R {
    values.withUnsafeMutableBufferPointer { v in
      scales.withUnsafeMutableBufferPointer { s in
        sums.withUnsafeMutableBufferPointer { n in
          body(pio_activations(values: v.baseAddress, scales: s.baseAddress, sums: n.baseAddress))
        }
      }
    }
  }
}
