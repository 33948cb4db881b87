import PIOFormat
import Testing

@testable import PIORuntime

/// How many rows go through a layer together says nothing about what comes out: in the tower, in the decoder, where rows
/// are cut between layers, and where something is added behind them.
struct ChunkTests {
  static let families =
    ["gqa-linear-sharded"] + tiledCheckpoints + smolCheckpoints + qwenCheckpoints

  private func session(
    _ golden: Golden, rows: Int, _ schedule: String?
  ) throws -> Session {
    let path = try Files.model(golden.checkpoint, weights: .f32, vision: .f32)
    let stages = try schedule.map { try Schedule(parsing: $0, layerCount: 2).stages }
    return try makeSession(path) {
      $0.compute = .f32
      $0.kv = .f32
      $0.chunkSizes = [rows]
      if let stages { $0.pruning.budget = .stages(stages) }
    }
  }

  @Test(arguments: families, [1, 7, 64])
  func anImageAndItsAnswerDoNotDependOnChunks(_ name: String, rows: Int) throws {
    let (golden, values) = try Golden.load(name)
    var session = try session(golden, rows: rows, nil)
    #expect(session.plan.arena.chunkRows == rows)
    for test in golden.cases where test.imagePaths.count > 0 {
      session.reset()
      let tokens = try session.rawTokens(test.prompt, isFirst: true)
      let (logits, generation) = try run(
        &session, tokens, images: test.imagePaths, count: test.greedy.count)
      let last = test.logits.row(test.positions.count - 1, of: values)
      #expect(largestDifference(logits, last) <= 1e-3, "\(test.name)")
      let ended = generation.finishReason == .stop
      #expect(generation.tokens == (ended ? test.greedy.dropLast() : test.greedy), "\(test.name)")
    }
  }

  @Test(arguments: families, ["1:6", "0:7,1:3"])
  func rowsThatAreCutDoNotDependOnChunks(_ name: String, schedule: String) throws {
    let (golden, _) = try Golden.load(name)
    let test = try #require(golden.cases.first { $0.imagePaths.count == 2 })
    var found: [(kept: [[Int]], logits: [Float])] = []
    for rows in [1, 7, 64, 128] {
      var session = try session(golden, rows: rows, schedule)
      let tokens = try session.rawTokens(test.prompt, isFirst: true)
      let logits = try run(&session, tokens, images: test.imagePaths, count: 1).logits
      found.append((session.pruningStages.map { $0.kept.map { Int($0) } }, Array(logits)))
    }
    for other in found.dropFirst() {
      #expect(other.kept == found[0].kept && !other.kept.isEmpty)
      #expect(largestDifference(other.logits, found[0].logits) <= 1e-4)
    }
  }
}
