import Foundation
import PIOConvert
import PIOFormat
import PIORuntime
import Testing

private let folder = repository.appendingPathComponent("Tests/Golden/gguf")

@Suite struct GGUFGoldenTests {
  private func session(_ rules: EncodingRules, _ compute: Compute) throws -> Session {
    let path = NSTemporaryDirectory() + "pioedge-gguf-\(UUID().uuidString).piom"
    defer { try? FileManager.default.removeItem(atPath: path) }
    try convert(
      ConvertOptions(
        source: folder.appendingPathComponent("kinds.gguf").path, target: path, rules: rules))
    return try makeSession(path) { limits in
      limits.compute = compute
      if compute == .f32 { limits.kv = .f32 }
    }
  }

  private func load() throws -> (Golden, [Float]) {
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: folder.appendingPathComponent("kinds/golden.json")))
    let bytes = try Data(contentsOf: folder.appendingPathComponent("kinds/golden.bin"))
    return (golden, bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) })
  }

  /// Text to logits: the vocabulary, the rotation, every type of weight.
  @Test func logitsAndTokensAreThoseOfTransformers() throws {
    let (golden, values) = try load()
    var session = try session(EncodingRules(weights: .f32), .f32)
    for test in golden.cases {
      session.reset()
      let tokens = try session.rawTokens(test.prompt, isFirst: true)
      #expect(tokens == test.ids, "\(test.name)")
      let (logits, generation) = try run(&session, tokens, count: test.greedy.count)
      let last = test.logits.row(test.positions.count - 1, of: values)
      #expect(largestDifference(logits, last) <= 1e-3, "\(test.name)")
      let ended = generation.finishReason == .stop
      #expect(generation.tokens == (ended ? test.greedy.dropLast() : test.greedy), "\(test.name)")
    }
  }

  /// Kept codes, an embedding table in blocks among them: what is lost is what five tensors lose.
  @Test func whatIsKeptAnswersAlike() throws {
    let (golden, values) = try load()
    for compute in [Compute.f32, .auto] {
      var session = try session(EncodingRules(weights: nil), compute)
      for test in golden.cases {
        session.reset()
        let (logits, _) = try run(&session, test.ids)
        let last = test.logits.row(test.positions.count - 1, of: values)
        let bound: Float = compute == .f32 ? 0.25 : 1.5
        #expect(largestDifference(logits, last) <= bound, "\(test.name), \(compute)")
        #expect(largestDifference(logits, last) > 1e-5, "nothing was quantized")
      }
    }
  }

  /// Each token's likelihood is that of the reference's logits before it.
  @Test func likelihoodsAreThoseOfTransformers() throws {
    let (golden, values) = try load()
    let session = try session(EncodingRules(weights: .f32), .f32)
    var compared = 0
    for test in golden.cases {
      let found = try session.runtime.negativeLogLikelihoods(of: test.ids, in: session.slot)
      #expect(found.count == test.ids.count - 1)
      for (index, position) in test.positions.enumerated() where position < found.count {
        let logits = test.logits.row(index, of: values).map(Double.init)
        let largest = logits.max()!
        let wanted =
          log(logits.reduce(0) { $0 + exp($1 - largest) }) + largest
          - logits[Int(test.ids[position + 1])]
        #expect(abs(found[position] - wanted) < 2e-3, "\(test.name) at \(position)")
        compared += 1
      }
    }
    #expect(compared >= 3)
  }
}
