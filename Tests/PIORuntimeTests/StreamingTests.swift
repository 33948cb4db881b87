import Foundation
import PIOFormat
import Testing

@testable import PIORuntime

/// Streamed weights are the same weights.
struct StreamingTests {
  private static let image = repository.appendingPathComponent(
    "tools/demo/images/scene-0002-336x336.png"
  ).path

  private func demo() throws -> String {
    try Files.model("tools/demo/checkpoint", weights: .int4, vision: .int8)
  }

  private func engine(
    _ path: String, _ method: FilePages.Method? = nil, _ change: (inout Limits) -> Void
  ) throws -> Engine {
    var limits = Limits()
    limits.threadCount = 2
    limits.contextRows = 128
    limits.maxImagePixels = 112_896
    limits.codecBytes = 1 << 20
    limits.isConversation = false
    change(&limits)
    return try Engine(
      ModelFile(path: path), limits: limits, readAhead: method, process: testProcess)
  }

  private func ask(_ engine: inout Engine) throws -> (logits: [Float], tokens: [Int32]) {
    engine.reset()
    let prompt = try engine.turnTokens(
      "Describe the image.", system: nil, imageCount: 1, isFirst: true)
    let (logits, generation) = try run(&engine, prompt, images: [Self.image], count: 24)
    return (logits, generation.tokens)
  }

  @Test(arguments: [FilePages.Method.populate, .touch])
  func streamedWeightsGiveTheSameBits(_ method: FilePages.Method) throws {
    let path = try demo()
    var plain = try engine(path) { $0.stream = .off }
    var streamed = try engine(path, method) { $0.stream = .on }
    let expected = try ask(&plain)
    for _ in 0..<3 {
      let found = try ask(&streamed)
      #expect(found.logits == expected.logits)
      #expect(found.tokens == expected.tokens)
    }
    let least = try engine(path) { $0.stream = .auto }.memory
    var partly = try engine(path, method) {
      $0.memoryCap = (least.smallestCapBytes + least.peakBytes) / 2
    }
    #expect(partly.memory.streamedBytesPerToken > 0 && partly.memory.residentWeightBytes > 0)
    let found = try ask(&partly)
    #expect(found.logits == expected.logits)
    #expect(found.tokens == expected.tokens)
  }

  @Test(arguments: tinyCheckpoints)
  func tinyModelsStreamToo(_ name: String) throws {
    let path = try Files.model(
      "Tests/Golden/checkpoints/\(name)", weights: .int8, vision: .int8)
    let test = try Golden.load(name).0.cases[0]
    var plain = try makeEngine(path) { $0.stream = .off }
    var streamed = try makeEngine(path) { $0.stream = .on }
    let tokens = try plain.rawTokens(test.prompt, isFirst: true)
    let a = try run(&plain, tokens, images: test.imagePaths, count: 8)
    let b = try run(&streamed, tokens, images: test.imagePaths, count: 8)
    #expect(a.logits == b.logits)
    #expect(a.generation.tokens == b.generation.tokens)
  }

  @Test func prefillReadsEachLayerOnce() throws {
    var engine = try engine(try demo()) { $0.stream = .on }
    let tokens = try engine.turnTokens(
      String(repeating: "What is here? ", count: 8), system: nil, imageCount: 1, isFirst: true)
    try engine.prefill(Request(tokens: tokens, images: [Self.image], maxTokens: 1))
    let units = engine.memory.residency.units
    let once = units.all.reduce(0) { $0 + $1.count }
    // The next token's first layer may be on its way already.
    #expect(engine.loadedWeightBytes >= once)
    #expect(engine.loadedWeightBytes <= once + units.layers[0].count)
    #expect(engine.cachedRows[0] > 600)
  }

  @Test func whatStaysIsReadOnce() throws {
    var engine = try engine(try demo()) { $0.isConversation = true }
    _ = try ask(&engine)
    let loaded = engine.loadedWeightBytes
    let units = engine.memory.residency.units
    #expect(loaded == units.all.reduce(0) { $0 + $1.count })
    _ = try ask(&engine)
    // A second image brings the tower back, and nothing else.
    #expect(engine.loadedWeightBytes - loaded == units.vision.reduce(0) { $0 + $1.count })
  }

  @Test func lockedWeightsStayLocked() throws {
    var engine = try engine(try demo()) { $0.locksWeights = true }
    _ = try ask(&engine)
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmLck:") } ?? ""
    let locked = Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "") ?? 0
    let needed = engine.memory.residentWeightBytes / 1024
    #expect(locked >= needed * 9 / 10)
  }

  @Test func aCapThatIsTooSmallSaysWhatWouldDo() throws {
    let path = try demo()
    let smallest = try engine(path) { _ in }.memory.smallestCapBytes
    do {
      _ = try engine(path) { $0.memoryCap = smallest - 1 }
      Issue.record("a cap one byte too small was taken")
    } catch RuntimeError.doesNotFit(let cap, let needed, let remedies) {
      #expect(cap == smallest - 1 && needed == smallest && !remedies.isEmpty)
    }
    _ = try engine(path) { $0.memoryCap = smallest }
  }

  @Test func aTextThatCannotFitIsNotEncoded() throws {
    let engine = try engine(try demo()) { _ in }
    let text = String(repeating: "a", count: engine.maxTextBytes + 1)
    #expect(throws: RuntimeError.textTooLong(bytes: text.utf8.count, maxBytes: engine.maxTextBytes))
    {
      _ = try engine.turnTokens(text, system: nil, imageCount: 0, isFirst: true)
    }
  }
}
