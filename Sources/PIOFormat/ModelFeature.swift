/// What a file may need of its reader, as the bits of the header say it: `formats/PIOM.md` §3.
///
/// Numbers are given before the features exist, so that a program which lacks one can name it.
enum ModelFeature: Int, CaseIterable {
  // Families, 0…15.
  case smolVLM = 0
  case qwen2VL = 1
  case qwen25VL = 2
  case qwen3VL = 3
  // How numbers are computed, from 16 on.
  case activationPrecision = 16

  /// Those that this version has.
  static let supported: Set<ModelFeature> = [.smolVLM, .qwen2VL, .qwen25VL, .qwen3VL]

  var bit: UInt64 { 1 << UInt64(rawValue) }

  var name: String {
    switch self {
    case .smolVLM: "SmolVLM (Idefics3)"
    case .qwen2VL: "Qwen2-VL"
    case .qwen25VL: "Qwen2.5-VL"
    case .qwen3VL: "Qwen3-VL"
    case .activationPrecision: "activations of more than 8 bits"
    }
  }

  /// The bits that this version accepts.
  static var supportedBits: UInt64 { supported.reduce(0) { $0 | $1.bit } }

  /// What `bits` stand for, for a message: names, and the bits that have none.
  static func names(of bits: UInt64) -> [String] {
    var rest = bits
    var names: [String] = []
    for feature in allCases where bits & feature.bit != 0 {
      names.append(feature.name)
      rest &= ~feature.bit
    }
    if rest != 0 { names.append("unknown features (bits 0x\(String(rest, radix: 16)))") }
    return names
  }
}

extension ModelConfig {
  /// The bits that a file of this model has.
  var features: UInt64 { vision?.feature?.bit ?? 0 }
}
