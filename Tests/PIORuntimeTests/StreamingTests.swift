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

  private func session(
    _ path: String, _ method: FilePages.Method? = nil, _ change: (inout Limits) -> Void
  ) throws -> Session {
    var limits = Limits()
    limits.threadCount = 2
    limits.contextRows = 128
    limits.maxImagePixels = 112_896
    limits.codecBytes = 1 << 20
    limits.isConversation = false
    change(&limits)
    return try Session(
      Runtime(ModelFile(path: path), limits: limits, readAhead: method, process: testProcess))
  }

  private func ask(_ session: inout Session) throws -> (logits: [Float], tokens: [Int32]) {
    session.reset()
    let prompt = try session.turnTokens(
      "Describe the image.", system: nil, imageCount: 1, isFirst: true)
    let (logits, generation) = try run(&session, prompt, images: [Self.image], count: 24)
    return (logits, generation.tokens)
  }

  @Test(arguments: [FilePages.Method.populate, .touch])
  func streamedWeightsGiveTheSameBits(_ method: FilePages.Method) throws {
    let path = try demo()
    var plain = try session(path) { $0.stream = .off }
    var streamed = try session(path, method) { $0.stream = .on }
    let expected = try ask(&plain)
    for _ in 0..<3 {
      let found = try ask(&streamed)
      #expect(found.logits == expected.logits)
      #expect(found.tokens == expected.tokens)
    }
    let least = try session(path) { $0.stream = .auto }.plan
    var partly = try session(path, method) {
      $0.memoryCap = (least.smallestCapBytes + least.peakBytes) / 2
    }
    #expect(partly.plan.streamedBytesPerToken > 0 && partly.plan.residentWeightBytes > 0)
    let found = try ask(&partly)
    #expect(found.logits == expected.logits)
    #expect(found.tokens == expected.tokens)
  }

  @Test(arguments: tinyCheckpoints)
  func tinyModelsStreamToo(_ name: String) throws {
    let path = try Files.model(
      "Tests/Golden/checkpoints/\(name)", weights: .int8, vision: .int8)
    let test = try Golden.load(name).0.cases[0]
    var plain = try makeSession(path) { $0.stream = .off }
    var streamed = try makeSession(path) { $0.stream = .on }
    let tokens = try plain.rawTokens(test.prompt, isFirst: true)
    let a = try run(&plain, tokens, images: test.imagePaths, count: 8)
    let b = try run(&streamed, tokens, images: test.imagePaths, count: 8)
    #expect(a.logits == b.logits)
    #expect(a.generation.tokens == b.generation.tokens)
  }

  @Test func prefillReadsEachLayerOnce() throws {
    var session = try session(try demo()) { $0.stream = .on }
    let tokens = try session.turnTokens(
      String(repeating: "What is here? ", count: 8), system: nil, imageCount: 1, isFirst: true)
    _ = try session.append(Request(tokens: tokens, images: [.file(Self.image)], maxTokens: 1))
    let units = session.plan.residency.units
    let once = units.all.reduce(0) { $0 + $1.count }
    // The next token's first layer may be on its way already.
    #expect(session.loadedWeightBytes >= once)
    #expect(session.loadedWeightBytes <= once + units.layers[0].count)
    #expect(session.cachedRows[0] > 600)
  }

  @Test func whatStaysIsReadOnce() throws {
    var session = try session(try demo()) { $0.isConversation = true }
    _ = try ask(&session)
    let loaded = session.loadedWeightBytes
    let units = session.plan.residency.units
    #expect(loaded == units.all.reduce(0) { $0 + $1.count })
    _ = try ask(&session)
    // A second image brings the tower back, and nothing else.
    #expect(session.loadedWeightBytes - loaded == units.vision.reduce(0) { $0 + $1.count })
  }

  @Test func lockedWeightsStayLocked() throws {
    var session = try session(try demo()) { $0.locksWeights = true }
    _ = try ask(&session)
    let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("VmLck:") } ?? ""
    let locked = Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "") ?? 0
    let needed = session.plan.residentWeightBytes / 1024
    #expect(locked >= needed * 9 / 10)
  }

  @Test func aCapThatIsTooSmallSaysWhatWouldDo() throws {
    let path = try demo()
    let smallest = try session(path) { _ in }.plan.smallestCapBytes
    do {
      _ = try session(path) { $0.memoryCap = smallest - 1 }
      Issue.record("a cap one byte too small was taken")
    } catch RuntimeError.doesNotFit(let cap, let needed, let remedies) {
      #expect(cap == smallest - 1 && needed == smallest && !remedies.isEmpty)
    }
    _ = try session(path) { $0.memoryCap = smallest }
  }

  @Test func aTextThatCannotFitIsNotEncoded() throws {
    let session = try session(try demo()) { _ in }
    let text = String(repeating: "a", count: session.maxTextBytes + 1)
    #expect(
      throws: RuntimeError.textTooLong(bytes: text.utf8.count, maxBytes: session.maxTextBytes)
    ) {
      _ = try session.turnTokens(text, system: nil, imageCount: 0, isFirst: true)
    }
  }
}
