import Foundation
import PIOFormat
import PIORuntime
import Testing

/// What the stages rank and keep, against PyTorch's automatic differentiation and plain selections in f64.
struct SaliencyTests {
  struct Case: Decodable, CustomTestStringConvertible {
    struct Stage: Decodable {
      struct Merge: Decodable, Equatable {
        let target: Int
        let sources: [Int]
      }
      let afterLayer: Int?
      let image: Int
      let candidates: [Int]
      let kept: [Int]
      let scores: Golden.Values?
      let merged: [Merge]?
      let classToken: Bool?

      enum CodingKeys: String, CodingKey {
        case image, candidates, kept, scores, merged
        case afterLayer = "after_layer"
        case classToken = "class_token"
      }
    }
    let checkpoint: String
    let images: [String]
    let ids: [Int32]
    let schedule: String
    let method: String
    let positions: String
    let proxyRows: String
    let proxyBlock: String
    let threshold: Float
    let stages: [Stage]
    let rows: [Int]
    let patchScore: String
    let logits: Golden.Values

    enum CodingKeys: String, CodingKey {
      case checkpoint, images, ids, schedule, method, positions, threshold, stages, rows, logits
      case patchScore = "patch_score"
      case proxyRows = "proxy_rows"
      case proxyBlock = "proxy_block"
    }

    var testDescription: String {
      let name = checkpoint.split(separator: "/").last!
      return "\(name), \(images.count) image(s), \(ids.count) tokens, \(method) \(schedule), "
        + "\(positions), \(proxyRows), \(proxyBlock), \(threshold)"
    }

    var isDemo: Bool { checkpoint.hasPrefix("tools") }
    var imagePaths: [String] { images.map { repository.appendingPathComponent($0).path } }
  }

  static let folder = repository.appendingPathComponent("Tests/Golden/saliency")
  static let cases = list("golden")
  static let values = numbers("golden")
  /// Images in tiles with text between them: tools/golden/make_smol_pruning_golden.py.
  static let smolCases = list("smol")
  static let smolValues = numbers("smol")

  /// Rows that stand at three positions: tools/golden/make_qwen_pruning_golden.py.
  static let qwenCases = list("qwen")
  static let qwenValues = numbers("qwen")

  private static func list(_ name: String) -> [Case] {
    let data = try! Data(contentsOf: folder.appendingPathComponent("\(name).json"))
    return try! JSONDecoder().decode([Case].self, from: data)
  }

  private static func numbers(_ name: String) -> [Float] {
    let data = try! Data(contentsOf: folder.appendingPathComponent("\(name).bin"))
    return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }

  static func pruning(_ test: Case) throws -> Pruning {
    var pruning = Pruning()
    pruning.method = PruneMethod(rawValue: test.method)!
    pruning.positions = PrunedPositions(rawValue: test.positions)!
    pruning.proxyRows = ProxyRows(rawValue: test.proxyRows)!
    pruning.proxyBlock = ProxyBlock(rawValue: test.proxyBlock)!
    pruning.nmsThreshold = test.threshold
    pruning.coverage = 0
    pruning.entry = .saliency
    pruning.patchScore = PatchScore(rawValue: test.patchScore)!
    pruning.budget = .stages(try Schedule(parsing: test.schedule, layerCount: 8).stages)
    return pruning
  }

  private func session(_ test: Case, _ weights: TensorKind, compute: Compute, kv: KVKind) throws
    -> Session
  {
    let path = try Files.model(test.checkpoint, weights: weights, vision: .f32)
    let pruning = try Self.pruning(test)
    return try makeSession(path) {
      $0.compute = compute
      $0.kv = kv
      $0.pruning = pruning
    }
  }

  @Test(arguments: cases)
  func scoresKeptRowsAndLogitsAreThoseOfTheReference(_ test: Case) throws {
    try compare(test, Self.values)
  }

  @Test(arguments: smolCases)
  func textBetweenTilesStaysAndRanksNowhere(_ test: Case) throws {
    try compare(test, Self.smolValues)
  }

  @Test(arguments: qwenCases)
  func rowsThatStayKeepTheirThreePositions(_ test: Case) throws {
    try compare(test, Self.qwenValues)
  }

  private func compare(_ test: Case, _ values: [Float]) throws {
    var session = try session(test, .f32, compute: .f32, kv: .f32)
    let (logits, _) = try run(&session, test.ids, images: test.imagePaths)
    #expect(session.cachedRows == test.rows)
    #expect(largestDifference(logits, test.logits.row(0, of: values)) <= 1e-3)
    let stages = session.pruningStages
    try #require(stages.count == test.stages.count)
    var largest = 0.0
    for (found, expected) in zip(stages, test.stages) {
      #expect(found.afterLayer == expected.afterLayer && found.image == expected.image)
      let classTokens = found.keepsClassToken ? 1 : 0
      #expect(found.before == expected.candidates.count)
      #expect(found.after == expected.kept.count + classTokens)
      if expected.afterLayer == nil {
        #expect(found.place == .encoder && found.keepsClassToken == expected.classToken)
        let merged = found.merged.map { Case.Stage.Merge(target: $0.target, sources: $0.sources) }
        #expect(merged == expected.merged)
      }
      #expect(found.candidates == expected.candidates)
      #expect(found.kept == expected.kept)
      guard let place = expected.scores else { continue }
      for (a, b) in zip(found.scores, place.row(0, of: values)) where b != 0 {
        largest = max(largest, abs(Double(a) - Double(b)) / Double(b))
      }
    }
    #expect(largest <= 1e-3, "relative error \(largest)")
    print("saliency, \(test.testDescription): \(largest)")
  }

  /// Ranks of the values, ties sharing their mean.
  private func ranks(_ values: some Collection<Float>) -> [Double] {
    let values = Array(values)
    let order = values.indices.sorted { values[$0] < values[$1] }
    var ranks = [Double](repeating: 0, count: values.count)
    for (rank, index) in order.enumerated() { ranks[index] = Double(rank) }
    return ranks
  }

  /// Spearman's correlation of ranks.
  private func spearman(_ a: some Collection<Float>, _ b: some Collection<Float>) -> Double {
    let (x, y) = (ranks(a), ranks(b))
    let squares = zip(x, y).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    let n = Double(x.count)
    return 1 - 6 * squares / (n * (n * n - 1))
  }

  /// Saliencies and kept tokens of one cut of the demo, for the first questions of its list.
  private func rankings(
    _ weights: TensorKind, compute: Compute, schedule: String
  ) throws -> [PruningStage] {
    let path = try Files.model("tools/demo/checkpoint", weights: weights, vision: .f32)
    var session = try makeSession(path) {
      $0.imageCount = 1
      $0.compute = compute
      $0.kv = compute == .f32 ? .f32 : .f16
      $0.pruning.budget = .stages(try! Schedule(parsing: schedule, layerCount: 8).stages)
      $0.pruning.coverage = 0
      $0.pruning.entry = .saliency
    }
    let folder = repository.appendingPathComponent("tools/demo")
    let lines = try String(
      contentsOf: folder.appendingPathComponent("questions.jsonl"), encoding: .utf8
    ).split(separator: "\n")
    return try stride(from: 0, to: lines.count, by: 30).map { index in
      let question = try JSONDecoder().decode(Question.self, from: Data(lines[index].utf8))
      session.reset()
      let tokens = try session.turnTokens(
        question.question, system: nil, imageCount: 1, isFirst: true)
      let image = folder.appendingPathComponent("images/" + question.image).path
      _ = try session.append(Request(tokens: tokens, images: [.file(image)], maxTokens: 1))
      return session.pruningStages[0]
    }
  }

  private struct Question: Decodable {
    let image: String
    let question: String
  }

  /// Of the demo: tiny random models are 40 wide, and their rounding errors do not average out. The median, because an
  /// int4 model may predict another token in a proxy row, and then has another loss; measured over 22 questions, 0.9998
  /// (int8) and 0.982 to 0.987 (int4), the same with `--compute f32`: what differs are the weights.
  @Test(arguments: ["0:64", "2:64"], [TensorKind.int8, .int4])
  func quantizedWeightsRankAsFloatOnesDo(_ schedule: String, weights: TensorKind) throws {
    let expected = try rankings(.f32, compute: .f32, schedule: schedule)
    let found = try rankings(weights, compute: .auto, schedule: schedule)
    let correlations = zip(found, expected).map { spearman($0.scores, $1.scores) }.sorted()
    let common = zip(found, expected).map { found, expected in
      Double(Set(found.kept).intersection(expected.kept).count) / Double(expected.kept.count)
    }.sorted()
    let median = correlations.count / 2
    print(
      "saliency, \(weights), \(schedule): Spearman \(correlations[median]), least \(correlations[0]); "
        + "kept in common \(common[median]), least \(common[0])")
    #expect(correlations[median] >= (weights == .int8 ? 0.99 : 0.97))
  }

  @Test(arguments: [KVKind.f32, .f16, .int8])
  func anImageInALaterTurnIsRankedAsInOnePrompt(_ kv: KVKind) throws {
    let test = Self.cases.first { $0.checkpoint.hasSuffix("gqa-linear-sharded") }!
    let path = try Files.model(test.checkpoint, weights: .f32, vision: .f32)
    let pruning = try Self.pruning(test)
    func scores(_ turns: [ArraySlice<Int32>]) throws -> [Float] {
      var session = try makeSession(path) {
        $0.compute = .f32
        $0.kv = kv
        $0.pruning = pruning
      }
      for turn in turns {
        let images = turn.contains(session.config.specialTokens.image) ? test.imagePaths : []
        _ = try session.append(
          Request(tokens: Array(turn), images: images.map { .file($0) }, maxTokens: 1))
      }
      return session.pruningStages[0].scores
    }
    let whole = try scores([test.ids[...]])
    let split = try scores([test.ids.prefix(4), test.ids.dropFirst(4)])
    let largest = zip(whole, split).map { abs($0 - $1) / $0 }.max()!
    // The earlier turn's rows come from the cache, as rounded there.
    #expect(largest <= (kv == .f32 ? 1e-4 : kv == .f16 ? 0.01 : 0.1), "\(largest)")
  }

  @Test(arguments: [1, 3, 4])
  func theThreadCountChangesNoBit(threads: Int) throws {
    let test = Self.cases.first { $0.checkpoint.hasSuffix("seven-heads-nested") }!
    let path = try Files.model(test.checkpoint, weights: .int4, vision: .int8)
    let pruning = try Self.pruning(test)
    func stage(_ count: Int) throws -> PruningStage {
      var session = try makeSession(path) {
        $0.threadCount = count
        $0.pruning = pruning
      }
      _ = try session.append(
        Request(tokens: test.ids, images: test.imagePaths.map { .file($0) }, maxTokens: 1))
      return session.pruningStages[0]
    }
    let (one, many) = try (stage(1), stage(threads))
    #expect(one.scores == many.scores && one.kept == many.kept)
  }

  @Test func aSessionChangesBetweenThePlannedWaysOnly() throws {
    let test = Self.cases.first { $0.isDemo && $0.method == "pio" }!
    let path = try Files.model(test.checkpoint, weights: .int8, vision: .int8)
    let pruning = try Self.pruning(test)
    var other = pruning
    other.method = .dart
    var session = try makeSession(path) {
      $0.imageCount = 1
      $0.alternatives = [pruning, other]
    }
    let whole = try stages(&session, test, nil)
    #expect(whole.isEmpty)
    let first = try stages(&session, test, pruning)
    #expect(first.count == 1 && !first[0].scores.isEmpty)
    let second = try stages(&session, test, other)
    #expect(second.count == 1 && second[0].kept != first[0].kept)
    other.seed = 9
    do {
      _ = try stages(&session, test, other)
      Issue.record("a way to prune that the plan has no room for")
    } catch {
      #expect(error as? RuntimeError == .pruningNotPlanned)
    }
    // What it was planned for alone gives the same.
    var alone = try makeSession(path) {
      $0.imageCount = 1
      $0.pruning = pruning
    }
    let found = try stages(&alone, test, nil)
    #expect(found.map(\.kept) == first.map(\.kept))
  }

  /// What the stages of one prompt do that is pruned in its own way, in a new conversation.
  private func stages(
    _ session: inout Session, _ test: Case, _ pruning: Pruning?
  ) throws -> [PruningStage] {
    var request = Request(tokens: test.ids, images: test.imagePaths.map { .file($0) }, maxTokens: 1)
    request.pruning = pruning
    session.reset()
    _ = try session.append(request)
    return session.pruningStages
  }
}
