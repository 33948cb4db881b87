import Foundation
import PIOFormat
import Testing

@testable import PIORuntime

/// Slots, turns that end early, and images that come as bytes.
struct RuntimeTests {
  private let test = try! Golden.load("gqa-linear-sharded").0.cases[0]

  private func session() throws -> Session {
    let (golden, _) = try Golden.load("gqa-linear-sharded")
    return try makeSession(Files.model(golden.checkpoint, weights: .int8, vision: .int8))
  }

  @Test func aSlotServesOneConversationAtATime() throws {
    var session = try self.session()
    let tokens = try session.rawTokens(test.prompt, isFirst: true)
    let first = try run(&session, tokens, images: test.imagePaths, count: 6)
    #expect(throws: RuntimeError.noFreeSlot(slotCount: 1)) { _ = try session.runtime.begin() }
    session.runtime.end(session.slot)
    let slot = try session.runtime.begin()
    var request = Request(
      tokens: tokens, images: test.imagePaths.map { .file($0) }, maxTokens: 6)
    var logits: [Float] = []
    request.inspectLogits = { logits = Array($0) }
    let again = try session.runtime.generate(slot, request) { _ in true }
    #expect(again.tokens == first.generation.tokens && logits == first.logits)
  }

  @Test func anAnswerThatIsNotWantedEndsBehindItsToken() throws {
    var stopped = try self.session()
    var cut = try self.session()
    let tokens = try stopped.rawTokens(test.prompt, isFirst: true)
    let request = Request(
      tokens: tokens, images: test.imagePaths.map { .file($0) }, maxTokens: 12)
    var pieces = 0
    let generation = try stopped.generate(request) { _ in
      pieces += 1
      return pieces < 3
    }
    #expect(generation.finishReason == .cancelled && generation.tokens.count == 3)
    // The conversation goes on as behind an answer that was as long as that.
    let expected = try run(&cut, tokens, images: test.imagePaths, count: 3)
    #expect(expected.generation.tokens == generation.tokens)
    let more = try stopped.rawTokens("And now?", isFirst: false)
    let after = try run(&stopped, more)
    let wanted = try run(&cut, more)
    #expect(after.logits == wanted.logits)
  }

  @Test(arguments: [true, false])
  func aCancelledTurnLeavesTheConversationAsItWas(_ hasImage: Bool) throws {
    var session = try self.session()
    var untouched = try self.session()
    let prompt = try session.rawTokens(test.prompt, isFirst: true)
    let image = session.config.specialTokens.image
    let tokens = hasImage ? prompt : prompt.filter { $0 != image }
    let images = hasImage ? test.imagePaths : []
    var request = Request(tokens: tokens, images: images.map { .file($0) }, maxTokens: 4)
    request.cancellation = Cancellation()
    request.cancellation!.cancel()
    #expect(throws: RuntimeError.cancelled) { _ = try session.append(request) }
    #expect(session.cachedRows.allSatisfy { $0 == 0 })
    let found = try run(&session, tokens, images: images, count: 4)
    let expected = try run(&untouched, tokens, images: images, count: 4)
    #expect(found.logits == expected.logits)
    #expect(found.generation.tokens == expected.generation.tokens)
  }

  /// Work that fails in the middle has given some layers rows that others lack.
  @Test func rowsOfHalfAPassAreTakenBack() throws {
    var session = try self.session()
    var untouched = try self.session()
    let tokens = try session.rawTokens(test.prompt, isFirst: true)
    _ = try run(&session, tokens, images: test.imagePaths, count: 3)
    _ = try run(&untouched, tokens, images: test.imagePaths, count: 3)
    let state = session.runtime.state(session.slot)
    let before = session.cachedRows
    let offsets = [Int32](repeating: 0, count: 4)
    _ = state.cache.claim(2, span: 5, layer: 0, offsets: offsets)
    _ = state.cache.claim(1, span: 1, layer: 1, offsets: offsets)
    #expect(session.cachedRows != before)
    state.cache.rollBack()
    #expect(session.cachedRows == before)
    let more = try session.rawTokens("And now?", isFirst: false)
    let after = try run(&session, more)
    let wanted = try run(&untouched, more)
    #expect(after.logits == wanted.logits)
  }

  @Test func imagesFromBytesAreThoseOfTheirFiles() throws {
    var files = try self.session()
    var bytes = try self.session()
    let tokens = try files.rawTokens(test.prompt, isFirst: true)
    let expected = try run(&files, tokens, images: test.imagePaths, count: 4)
    let data = try Data(contentsOf: URL(fileURLWithPath: test.imagePaths[0]))
    let found = try data.withUnsafeBytes { raw in
      try bytes.generate(
        Request(tokens: tokens, images: [.bytes(raw, name: "upload")], maxTokens: 4))
    }
    #expect(found.tokens == expected.generation.tokens)
    do {
      try Data("GIF89a".utf8).withUnsafeBytes { raw in
        _ = try bytes.append(
          Request(tokens: tokens, images: [.bytes(raw, name: "upload")], maxTokens: 4))
      }
      Issue.record("a GIF was taken")
    } catch let error as RuntimeError {
      #expect("\(error)".hasPrefix("upload: "))
    }
  }
}
