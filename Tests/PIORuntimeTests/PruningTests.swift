import Foundation
import PIOFormat
import PIORuntime
import Testing

/// Pruned prefill against the layers of `transformers`, cut by the same rule.
struct PruningTests {
  struct Case: Decodable, CustomTestStringConvertible {
    let checkpoint: String
    let images: [String]
    let prompt: String
    let schedule: String
    let positions: String
    let rows: [Int]
    let logits: Golden.Values
    let greedy: [Int32]

    var testDescription: String {
      "\(checkpoint.split(separator: "/").last!), \(images.count) image(s), \(schedule), \(positions)"
    }
  }

  static let folder = repository.appendingPathComponent("Tests/Golden/pruning")
  static let cases: [Case] = {
    let data = try! Data(contentsOf: folder.appendingPathComponent("golden.json"))
    return try! JSONDecoder().decode([Case].self, from: data)
  }()
  static let values: [Float] = {
    let data = try! Data(contentsOf: folder.appendingPathComponent("golden.bin"))
    return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }()

  private func session(_ test: Case, _ change: (inout Limits) throws -> Void = { _ in }) throws
    -> Session
  {
    let path = try Files.model(test.checkpoint, weights: .f32, vision: .f32)
    let layerCount = try ModelFile(path: path).config.text.layerCount
    let stages = try Schedule(parsing: test.schedule, layerCount: layerCount).stages
    return try makeSession(path) {
      $0.compute = .f32
      $0.kv = .f32
      $0.pruning.method = .uniform
      $0.pruning.budget = .stages(stages)
      $0.pruning.positions = test.positions == "compact" ? .compact : .original
      try? change(&$0)
    }
  }

  private func paths(_ test: Case) -> [String] {
    test.images.map { repository.appendingPathComponent($0).path }
  }

  @Test(arguments: cases)
  func logitsAndTokensAreThoseOfTheReference(_ test: Case) throws {
    var session = try session(test)
    let (logits, generation) = try run(
      &session, try session.rawTokens(test.prompt, isFirst: true), images: paths(test),
      count: max(1, test.greedy.count))
    #expect(largestDifference(logits, test.logits.row(0, of: Self.values)) <= 1e-3)
    #expect(zip(generation.tokens, test.greedy).allSatisfy { $0 == $1 })
    #expect(generation.tokens.count >= test.greedy.count - 1)
    // Every token but the last went through all layers behind the prompt's rows.
    let run = max(0, generation.tokens.count - (generation.finishReason == .length ? 1 : 0))
    #expect(session.cachedRows == test.rows.map { $0 + run })
  }

  /// All but those for images at their own shape.
  static let methods = PruneMethod.allCases.filter { !$0.zipsByWindows }

  @Test(arguments: methods)
  func aBudgetOfAllTokensChangesNoBit(_ method: PruneMethod) throws {
    let test = Self.cases[0]
    var pruned = try session(test) {
      $0.pruning.method = method
      $0.pruning.budget = .average(10_000)
    }
    var whole = try session(test) { $0.pruning = Pruning() }
    let tokens = try whole.rawTokens(test.prompt, isFirst: true)
    let a = try run(&pruned, tokens, images: paths(test), count: 8)
    let b = try run(&whole, tokens, images: paths(test), count: 8)
    #expect(a.logits == b.logits && a.generation.tokens == b.generation.tokens)
    #expect(pruned.plan.arena.kvByteCount == whole.plan.arena.kvByteCount)
  }

  @Test(arguments: [PruneMethod.windowzip, .windowzipPIO])
  func aMethodForImagesAtTheirOwnShapeIsRefused(_ method: PruneMethod) throws {
    #expect(throws: RuntimeError.encoderKeepsAll(method: method.rawValue)) {
      _ = try session(Self.cases[0]) {
        $0.pruning.method = method
        $0.pruning.budget = .average(10)
      }
    }
  }

  @Test(arguments: methods)
  func aPromptWithoutAnImageIsNotTouched(_ method: PruneMethod) throws {
    let test = Self.cases[0]
    var pruned = try session(test) { $0.pruning.method = method }
    var whole = try session(test) { $0.pruning = Pruning() }
    let tokens: [Int32] = [1, 30, 40, 50, 60]
    #expect(try run(&pruned, tokens).logits == run(&whole, tokens).logits)
    #expect(pruned.pruningStages.isEmpty)
  }

  @Test func laterLayersHoldFewerRowsAndNoMoreThanTheyNeed() throws {
    let test = Self.cases.first { $0.schedule == "0:9,1:3" }!
    let session = try session(test)
    let limits = session.plan.limits
    let images = limits.imageCount
    #expect(session.plan.arena.layerCapacities[0] == limits.contextRows + 9 * images)
    #expect(
      session.plan.arena.layerCapacities.dropFirst().allSatisfy {
        $0 == limits.contextRows + 3 * images
      })
  }

  @Test func randomKeepsWhatItsSeedSays() throws {
    let test = Self.cases[0]
    func logits(seed: UInt64) throws -> [Float] {
      var session = try session(test) {
        $0.pruning.method = .random
        $0.pruning.seed = seed
      }
      return try run(
        &session, try session.rawTokens(test.prompt, isFirst: true), images: paths(test)
      ).logits
    }
    let first = try logits(seed: 1)
    #expect(try first == logits(seed: 1))
    #expect(try first != logits(seed: 2))
  }

  /// Of 24 lines of 24 each line and each column keeps its share. Two of three tokens counted on through the lines
  /// would leave out every third column.
  @Test(arguments: [384, 257, 192, 130, 96, 64])
  func whatEntersEvenlyLeavesNoLineOrColumnOut(_ count: Int) throws {
    let path = try Files.model("tools/demo/checkpoint", weights: .int4, vision: .int8)
    var session = try makeSession(path) {
      $0.imageCount = 1
      $0.pruning.budget = .stages([Schedule.Stage(afterLayer: 0, keep: count)])
    }
    _ = try run(
      &session, try session.rawTokens("USER: <image>\nHow many? ASSISTANT:", isFirst: true),
      images: [repository.appendingPathComponent("tools/demo/images/scene-0002-336x336.png").path])
    let kept = try #require(session.pruningStages.first).kept
    #expect(kept.count == count)
    var (lines, columns) = ([Int](repeating: 0, count: 24), [Int](repeating: 0, count: 24))
    for token in kept {
      lines[token / 24] += 1
      columns[token % 24] += 1
    }
    for found in lines + columns {
      #expect(abs(Double(found) - Double(count) / 24) <= 1.5, "\(lines), \(columns)")
    }
  }

  @Test func aPrunedPromptMustEndInText() throws {
    let test = Self.cases[0]
    var session = try session(test)
    #expect(throws: RuntimeError.prunedPromptEndsWithImage) {
      _ = try run(&session, [1, session.config.specialTokens.image], images: paths(test))
    }
  }

  @Test(arguments: [PrunedPositions.original, .compact])
  func aSecondTurnSeesWhatTheFirstLeft(_ positions: PrunedPositions) throws {
    // In one prompt, or the second half as a turn of its own: the same rows at the same positions.
    let test = Self.cases.first { $0.schedule == "1:4" && $0.images.count == 1 }!
    var whole = try session(test) { $0.pruning.positions = positions }
    var turns = try session(test) { $0.pruning.positions = positions }
    let tokens = try whole.rawTokens(test.prompt, isFirst: true)
    let expected = try run(&whole, tokens, images: paths(test))
    _ = try turns.append(
      Request(
        tokens: Array(tokens.dropLast(4)), images: paths(test).map { .file($0) }, maxTokens: 1))
    let found = try run(&turns, Array(tokens.suffix(4)))
    #expect(largestDifference(expected.logits, found.logits) <= 1e-4)
    #expect(whole.cachedRows == turns.cachedRows)
  }
}
