import PIOFormat

/// How tensors are to be stored: `--weights`, `--vision-weights`, `--group` and the `--keep` rules.
public struct EncodingRules: Sendable, Equatable {
  /// The decoder's matrices.
  public var weights: TensorKind
  /// The vision encoder's and the projector's; nil: int8 where `weights` are codes, else the same.
  public var visionWeights: TensorKind?
  /// Columns that share a scale: 32, 64 or 128.
  public var group: Int
  /// The last rule that fits a name decides.
  public var keep: [KeepRule]

  public init(
    weights: TensorKind, visionWeights: TensorKind? = nil, group: Int = 32, keep: [KeepRule] = []
  ) {
    self.weights = weights
    self.visionWeights = visionWeights
    self.group = group
    self.keep = keep
  }

  /// The rules as the command line would give them.
  public var recipe: String {
    var text = "--weights \(weights.name) --group \(group)"
    text += " --vision-weights \(vision.name)"
    for rule in keep { text += " --keep \(rule.pattern)=\(rule.kind.name)" }
    return text
  }

  private var vision: TensorKind { visionWeights ?? (weights.isQuantized ? .int8 : weights) }

  /// One encoding for each tensor of a model.
  ///
  /// In files of codes the embedding table and the head are int8: a row of the table is read once
  /// a token, so that its size costs no time, and an error in the head goes into the choice of the
  /// token undamped, for 2 % of a 7B model's bytes.
  public func encodings(for specs: [TensorSpec]) throws(ConvertError) -> [TensorEncoding] {
    guard [32, 64, 128].contains(group) else {
      throw .kind(problem: "a group of \(group) is not supported (32, 64, 128 are)")
    }
    var used: Set<Int> = []
    var encodings: [TensorEncoding] = []
    for spec in specs {
      var kind = standardKind(spec)
      if spec.role != .small, let rule = keep.lastIndex(where: { $0.matches(spec.name) }) {
        kind = keep[rule].kind
      }
      if spec.role != .small {
        used.formUnion(keep.indices.filter { keep[$0].matches(spec.name) })
      }
      let encoding = TensorEncoding(
        kind: kind, layout: kind.isQuantized && spec.role == .matrix ? .blocks16 : .rows,
        group: kind.isQuantized ? group : 0)
      guard spec.role.allows(encoding) else {
        throw .kind(
          problem:
            "\(spec.name) cannot be \(kind.name): an embedding table is int8, f16, bf16 or f32")
      }
      encodings.append(encoding)
    }
    if let rule = keep.indices.first(where: { !used.contains($0) }) {
      throw .kind(problem: "--keep \(keep[rule].pattern): no weight matrix has such a name")
    }
    return encodings
  }

  private func standardKind(_ spec: TensorSpec) -> TensorKind {
    switch (spec.role, spec.section) {
    case (.small, _): .f32
    case (_, .embedding), (_, .head): weights.isQuantized ? .int8 : weights
    case (_, .visionEmbedding), (_, .visionLayer), (_, .projector): vision
    case (_, .decoderLayer): weights
    }
  }
}

/// `PATTERN=KIND`: tensors whose name fits the pattern are stored so. `*` stands for anything.
public struct KeepRule: Sendable, Equatable {
  public let pattern: String
  public let kind: TensorKind

  public init(pattern: String, kind: TensorKind) {
    self.pattern = pattern
    self.kind = kind
  }

  /// Nil where `text` is not `PATTERN=KIND`.
  public init?(_ text: String) {
    guard let equals = text.lastIndex(of: "="), equals > text.startIndex,
      let kind = TensorKind(name: String(text[text.index(after: equals)...])),
      text.utf8.allSatisfy({ $0 > 32 && $0 < 127 }), text.utf8.count <= 128
    else { return nil }
    self.init(pattern: String(text[..<equals]), kind: kind)
  }

  /// Greedy matching with one step back: linear in most names, quadratic at worst.
  func matches(_ name: String) -> Bool {
    let (name, pattern) = (Array(name.utf8), Array(pattern.utf8))
    var (n, p) = (0, 0)
    var star: (pattern: Int, name: Int)?
    while n < name.count {
      if p < pattern.count, pattern[p] == UInt8(ascii: "*") {
        star = (p, n)
        p += 1
      } else if p < pattern.count, pattern[p] == name[n] {
        (n, p) = (n + 1, p + 1)
      } else if let last = star {
        star = (last.pattern, last.name + 1)
        (n, p) = (last.name + 1, last.pattern + 1)
      } else {
        return false
      }
    }
    return pattern[p...].allSatisfy { $0 == UInt8(ascii: "*") }
  }
}

extension TensorKind {
  /// As the command line and reports write it.
  public var name: String {
    switch self {
    case .f32: "f32"
    case .f16: "f16"
    case .bf16: "bf16"
    case .int8: "int8"
    case .int4: "int4"
    case .int4Affine: "int4-affine"
    }
  }

  public init?(name: String) {
    guard let kind = Self.allCases.first(where: { $0.name == name }) else { return nil }
    self = kind
  }
}
