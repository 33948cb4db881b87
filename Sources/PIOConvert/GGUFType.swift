/// How a tensor's numbers are stored in a source: rows of blocks, each of so many weights in so
/// many bytes. The numbers are those of GGUF's directory.
enum WeightType: UInt32, Equatable, Hashable, Sendable, CaseIterable {
  case f32 = 0
  case f16 = 1
  case q40 = 2
  case q41 = 3
  case q50 = 6
  case q51 = 7
  case q80 = 8
  case q4K = 12
  case q5K = 13
  case q6K = 14
  case bf16 = 30

  var name: String { ggmlTypes[rawValue]!.name }
  var blockCount: Int { ggmlTypes[rawValue]!.weights }
  var blockByteCount: Int { ggmlTypes[rawValue]!.bytes }

  /// Bits of one weight's code, scales not counted.
  var codeBits: Int {
    switch self {
    case .f32: 32
    case .f16, .bf16: 16
    case .q80: 8
    case .q6K: 6
    case .q50, .q51, .q5K: 5
    case .q40, .q41, .q4K: 4
    }
  }

  /// Bytes of a row; `columns` is a multiple of `blockCount`.
  func rowByteCount(_ columns: Int) -> Int { columns / blockCount * blockByteCount }
}

/// A type of GGUF's directory: its name, and a block's weights and bytes.
struct GGMLType: Equatable, Sendable {
  let name: String
  let weights: Int
  let bytes: Int

  /// Nil where the type is unknown: then not even its size is.
  init?(_ number: UInt32) {
    guard let type = ggmlTypes[number] else { return nil }
    self.init(type.name, type.weights, type.bytes)
  }

  fileprivate init(_ name: String, _ weights: Int, _ bytes: Int) {
    (self.name, self.weights, self.bytes) = (name, weights, bytes)
  }
}

/// Source: `GGML_QUANT_SIZES` of the PyPI package gguf 0.19.0.
private let ggmlTypes: [UInt32: GGMLType] = [
  0: GGMLType("F32", 1, 4), 1: GGMLType("F16", 1, 2),
  2: GGMLType("Q4_0", 32, 18), 3: GGMLType("Q4_1", 32, 20),
  6: GGMLType("Q5_0", 32, 22), 7: GGMLType("Q5_1", 32, 24),
  8: GGMLType("Q8_0", 32, 34), 9: GGMLType("Q8_1", 32, 40),
  10: GGMLType("Q2_K", 256, 84), 11: GGMLType("Q3_K", 256, 110),
  12: GGMLType("Q4_K", 256, 144), 13: GGMLType("Q5_K", 256, 176),
  14: GGMLType("Q6_K", 256, 210), 15: GGMLType("Q8_K", 256, 292),
  16: GGMLType("IQ2_XXS", 256, 66), 17: GGMLType("IQ2_XS", 256, 74),
  18: GGMLType("IQ3_XXS", 256, 98), 19: GGMLType("IQ1_S", 256, 50),
  20: GGMLType("IQ4_NL", 32, 18), 21: GGMLType("IQ3_S", 256, 110),
  22: GGMLType("IQ2_S", 256, 82), 23: GGMLType("IQ4_XS", 256, 136),
  24: GGMLType("I8", 1, 1), 25: GGMLType("I16", 1, 2), 26: GGMLType("I32", 1, 4),
  27: GGMLType("I64", 1, 8), 28: GGMLType("F64", 1, 8), 29: GGMLType("IQ1_M", 256, 56),
  30: GGMLType("BF16", 1, 2), 34: GGMLType("TQ1_0", 256, 54), 35: GGMLType("TQ2_0", 256, 66),
  39: GGMLType("MXFP4", 32, 17), 40: GGMLType("NVFP4", 64, 36), 41: GGMLType("Q1_0", 128, 18),
]
