import PIOBase
import Glibc
import PIOFormat

/// The rotary embedding's inverse frequencies, computed here so that no runtime repeats a rule.
///
/// `frequencies` are `(headDim / 2)`. The unscaled ones are `theta^(-2i/headDim)`; f32 arithmetic
/// in the order of transformers' `modeling_rope_utils`, so that both agree to the last bits.
/// Sources: Su et al. 2021 (arXiv:2104.09864), Peng et al. 2023 (YaRN, arXiv:2309.00071).
struct RotaryFrequencies: Equatable {
  var frequencies: [Float]
  var scaling: RopeScaling
  var theta: Double
  var attentionFactor: Double = 1

  /// From a decoder's configuration: `rope_parameters`, or the older `rope_theta` + `rope_scaling`.
  init(_ config: ConfigObject, headDim: Int, maxPositions: Int) throws(ConvertError) {
    let key = try config.ropeKey()
    let rope =
      try config.object(key) ?? ConfigObject(file: config.file, path: config.path, members: [:])
    theta = try config.ropeTheta(rope)
    try config.refusePartialRotation(rope)
    let powers = Self.powers(theta: theta, headDim: headDim)
    frequencies = powers.map { 1 / $0 }
    scaling = .none
    let original = try config.originalPositions(rope, maxPositions: maxPositions)
    try scale(rope, powers, originalPositions: original, maxPositions: maxPositions)
    guard frequencies.allSatisfy({ $0.isFinite && $0 > 0 }), attentionFactor.isFinite else {
      throw config.failure(key, "gives frequencies that are not finite and positive")
    }
  }

  /// `theta^(2i/headDim)`
  private static func powers(theta: Double, headDim: Int) -> [Float] {
    let base = Double(Float(theta))
    return (0..<headDim / 2).map { Float(pow(base, Double(Float(2 * $0) / Float(headDim)))) }
  }

  private mutating func scale(
    _ rope: ConfigObject, _ powers: [Float], originalPositions: Double, maxPositions: Int
  ) throws(ConvertError) {
    let type = try rope.string("rope_type", default: try rope.string("type", default: "default"))
    switch type {
    case "default": scaling = .none
    case "linear":
      scaling = .linear
      try scaleLinear(rope)
    case "llama3":
      scaling = .llama3
      try scaleLlama3(rope, originalPositions: originalPositions)
    case "yarn":
      scaling = .yarn
      try scaleYarn(
        rope, powers, originalPositions: originalPositions, maxPositions: maxPositions)
    default:
      throw rope.failure(
        rope["rope_type"] == nil ? "type" : "rope_type",
        "'\(type.shortened)' is not supported (default, linear, llama3, yarn are)")
    }
  }

  private mutating func scaleLinear(_ rope: ConfigObject) throws(ConvertError) {
    let factor = Float(try rope.positive("factor"))
    for i in frequencies.indices { frequencies[i] /= factor }
  }

  /// Long wavelengths divided by the factor, short ones kept, those between blended.
  private mutating func scaleLlama3(
    _ rope: ConfigObject, originalPositions: Double
  ) throws(ConvertError) {
    let factor = Float(try rope.positive("factor"))
    let low = try rope.positive("low_freq_factor")
    let high = try rope.positive("high_freq_factor")
    guard high != low else { throw rope.failure("high_freq_factor", "equals low_freq_factor") }
    let longest = Float(originalPositions / low)
    let shortest = Float(originalPositions / high)
    for (i, frequency) in frequencies.enumerated() {
      let wavelength = Float(2 * Double.pi) / frequency
      if wavelength > longest {
        frequencies[i] = frequency / factor
      } else if wavelength >= shortest {
        let smooth = (Float(originalPositions) / wavelength - Float(low)) / Float(high - low)
        frequencies[i] = (1 - smooth) * frequency / factor + smooth * frequency
      }
    }
  }

  /// YaRN: interpolated and extrapolated frequencies blended along a ramp between two dimensions.
  private mutating func scaleYarn(
    _ rope: ConfigObject, _ powers: [Float], originalPositions: Double, maxPositions: Int
  ) throws(ConvertError) {
    guard originalPositions > 0 else {
      throw rope.failure("original_max_position_embeddings", "is not positive")
    }
    guard rope.members["factor"] != nil else { throw rope.failure("factor", "is missing") }
    let factor =
      try rope.optionalDouble("factor") ?? Double(maxPositions) / originalPositions
    guard factor > 0 else { throw rope.failure("factor", "is not positive") }
    attentionFactor = try yarnAttentionFactor(rope, factor: factor)

    let dim = powers.count * 2
    func correction(_ rotations: Double) -> Double {
      Double(dim) * log(originalPositions / (rotations * 2 * .pi)) / (2 * log(theta))
    }
    var low = correction(try rope.truthy("beta_fast") ?? 32)
    var high = correction(try rope.truthy("beta_slow") ?? 1)
    if try rope.bool("truncate", default: true) { (low, high) = (floor(low), ceil(high)) }
    (low, high) = (max(low, 0), min(high, Double(dim - 1)))
    if low == high { high += 0.001 }
    for (i, power) in powers.enumerated() {
      let ramp = min(max((Float(i) - Float(low)) / Float(high - low), 0), 1)
      let kept = 1 - ramp
      let interpolated = 1 / (Float(factor) * power)
      frequencies[i] = interpolated * (1 - kept) + (1 / power) * kept
    }
  }

  private func yarnAttentionFactor(
    _ rope: ConfigObject, factor: Double
  ) throws(ConvertError) -> Double {
    if let given = try rope.optionalDouble("attention_factor") {
      guard given > 0 else { throw rope.failure("attention_factor", "is not positive") }
      return given
    }
    func mscale(_ scale: Double) -> Double { factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1 }
    if let over = try rope.truthy("mscale"), let under = try rope.truthy("mscale_all_dim") {
      return mscale(over) / mscale(under)
    }
    return mscale(1)
  }
}

extension ConfigObject {
  fileprivate func ropeKey() throws(ConvertError) -> String {
    let isOlder = try object("rope_scaling").map(\.members.isEmpty) == false
    return isOlder ? "rope_scaling" : "rope_parameters"
  }

  fileprivate func ropeTheta(_ rope: ConfigObject) throws(ConvertError) -> Double {
    let theta = try rope.double("rope_theta", default: try double("rope_theta", default: 10_000))
    guard theta > 1, theta <= 1e12 else {
      throw failure("rope_theta", "is \(theta), not in 1…1e12")
    }
    return theta
  }

  fileprivate func refusePartialRotation(_ rope: ConfigObject) throws(ConvertError) {
    let key = "partial_rotary_factor"
    for source in [self, rope] where source[key] != nil {
      guard try source.double(key, default: 1) == 1 else { throw source.unsupported(key) }
    }
  }

  /// Positions of the model before its context was extended.
  fileprivate func originalPositions(
    _ rope: ConfigObject, maxPositions: Int
  ) throws(ConvertError) -> Double {
    let key = "original_max_position_embeddings"
    let inner = try rope.double(key, default: Double(maxPositions))
    return try optionalDouble(key) ?? inner
  }

  fileprivate func positive(_ key: String) throws(ConvertError) -> Double {
    guard let value = try optionalDouble(key) else { throw failure(key, "is missing") }
    guard value > 0, value <= 1e12 else { throw failure(key, "is \(value), not in 0…1e12") }
    return value
  }

  /// The number, unless it is absent or zero.
  fileprivate func truthy(_ key: String) throws(ConvertError) -> Double? {
    guard let value = try optionalDouble(key), value != 0 else { return nil }
    return value
  }
}
