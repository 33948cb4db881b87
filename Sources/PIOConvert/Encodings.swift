import PIOFormat

/// How tensors are to be stored: `--weights`, `--vision-weights`, `--group` and the `--keep` rules.
public struct EncodingRules: Sendable, Equatable {
  /// The decoder's matrices; nil: as the source stores them, or the nearest kind there is.
  public var weights: TensorKind?
  /// The vision encoder's and the projector's; nil: int8 where `weights` are codes, else the same.
  public var visionWeights: TensorKind?
  /// Columns that share a scale: 32, 64 or 128. Codes taken over from a source keep their 32.
  public var group: Int
  /// The last rule that fits a name decides.
  public var keep: [KeepRule]

  public init(
    weights: TensorKind?, visionWeights: TensorKind? = nil, group: Int = 32, keep: [KeepRule] = []
  ) {
    self.weights = weights
    self.visionWeights = visionWeights
    self.group = group
    self.keep = keep
  }

  /// The rules as the command line would give them.
  public var recipe: String {
    var text = "--weights \(weights?.name ?? "keep") --group \(group)"
    if let vision { text += " --vision-weights \(vision.name)" }
    for rule in keep { text += " --keep \(rule.pattern)=\(rule.kind.name)" }
    return text
  }

  private var vision: TensorKind? {
    visionWeights ?? weights.map { $0.isQuantized ? .int8 : $0 }
  }

  /// One encoding for each tensor of a model.
  ///
  /// In files of codes the embedding table and the head are int8: a row of the table is read once
  /// a token, so that its size costs no time, and an error in the head goes into the choice of the
  /// token undamped, for 2 % of a 7B model's bytes. `types`: what each tensor's source has, nil
  /// where it has none; codes of five bits or fewer stay as they are where int4 is asked for.
  func encodings(
    for specs: [TensorSpec], types: [WeightType?]
  ) throws(ConvertError) -> [TensorEncoding] {
    guard [32, 64, 128].contains(group) else {
      throw .kind(problem: "a group of \(group) is not supported (32, 64, 128 are)")
    }
    var used: Set<Int> = []
    var encodings: [TensorEncoding] = []
    for (spec, type) in zip(specs, types) {
      if spec.role == .small {
        encodings.append(.f32)
        continue
      }
      if let rule = keep.lastIndex(where: { $0.matches(spec.name) }) {
        used.formUnion(keep.indices.filter { keep[$0].matches(spec.name) })
        encodings.append(encoding(keep[rule].kind, spec, group: group))
        continue
      }
      let type = type ?? .f32
      if let kind = asked(spec, type) {
        encodings.append(encoding(kind, spec, group: group))
      } else {
        let kind = type.keptKind
        encodings.append(encoding(kind, spec, group: BlockCodes.fit(type, kind) ? 32 : group))
      }
    }
    if let rule = keep.indices.first(where: { !used.contains($0) }) {
      throw .kind(problem: "--keep \(keep[rule].pattern): no weight matrix matches")
    }
    return encodings
  }

  /// The kind that is asked for; nil: the source's own.
  private func asked(_ spec: TensorSpec, _ type: WeightType) -> TensorKind? {
    let kind: TensorKind? =
      switch spec.section {
      case .embedding, .head: weights.map { $0.isQuantized ? .int8 : $0 }
      case .visionEmbedding, .visionLayer, .deepstack, .projector: vision
      case .decoderLayer: weights
      }
    let wantsFourBits = weights == .int4 || weights == .int4Affine
    return wantsFourBits && type.codeBits <= 5 ? nil : kind
  }

  /// A table's int8 rows are read one by one; everything else of codes is in kernel layout.
  private func encoding(_ kind: TensorKind, _ spec: TensorSpec, group: Int) -> TensorEncoding {
    let isTable = spec.role == .embedding && kind == .int8
    return TensorEncoding(
      kind: kind, layout: kind.isQuantized && !isTable ? .blocks16 : .rows,
      group: kind.isQuantized ? group : 0)
  }
}

extension WeightType {
  /// The kind that keeps its numbers: exactly, but for Q4_K (see `BlockCodes`), and for Q5_1, Q5_K
  /// and Q6_K, whose codes are found anew.
  var keptKind: TensorKind {
    switch self {
    case .f32: .f32
    case .f16: .f16
    case .bf16: .bf16
    case .q40: .int4
    case .q41, .q4K: .int4Affine
    case .q50, .q51, .q5K, .q6K, .q80: .int8
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
