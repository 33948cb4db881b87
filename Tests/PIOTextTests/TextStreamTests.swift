import PIOText
import Testing

struct TextStreamTests {
  /// All outputs of a stream, joined; checks that each is whole characters.
  private func streamed(_ tokenizer: Tokenizer, _ ids: [Int32]) -> [UInt8] {
    let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(
      capacity: tokenizer.maxPieceByteCount + 16)
    defer { buffer.deallocate() }
    var stream = TextStream(tokenizer, buffer: buffer)
    var out: [UInt8] = []
    func take(_ part: UnsafeBufferPointer<UInt8>) {
      #expect(String(validating: part, as: UTF8.self) != nil)
      out += part
    }
    for id in ids { take(stream.next(id)) }
    take(stream.finish())
    return out
  }

  @Test(arguments: GoldenTokenizer.names)
  func streamingATextGivesItsDecodedText(name: String) throws {
    let golden = try GoldenTokenizer(name)
    for ids in golden.ids {
      let whole = golden.tokenizer.decode(ids, skipSpecialTokens: true)
      #expect(streamed(golden.tokenizer, ids) == bytes(whole))
    }
  }

  @Test(arguments: ["gpt2", "gpt2_prefix", "llama3", "qwen2", "digits", "metaspace_always"])
  func streamingAnyIdsGivesTheirDecodedText(name: String) throws {
    let golden = try GoldenTokenizer(name)
    var random = SplitMix(state: 1)
    for _ in 0..<3_000 {
      let ids = (0..<Int.random(in: 0...12, using: &random)).map { _ in
        Int32.random(in: -1...500, using: &random)
      }
      let whole = golden.tokenizer.decode(ids, skipSpecialTokens: true)
      #expect(streamed(golden.tokenizer, ids) == bytes(whole), "\(ids)")
    }
  }

  /// Runs of byte tokens that are UTF-8 as a whole, or hold no whole character at all.
  @Test(arguments: ["demo", "llama2", "metaspace_first"])
  func streamingByteTokensGivesTheirDecodedText(name: String) throws {
    let tokenizer = try GoldenTokenizer(name)
    let byte = { (value: UInt8) in Int32(value) + 3 }
    let runs: [[UInt8]] = [
      bytes("é"), bytes("한😀"), bytes(" a"), [0xE4, 0xBD], [0xFF], [0xF0, 0x9F, 0x98],
      [0xC3], [0x80, 0x80], [0xED, 0xA0, 0x80], [0xF4, 0x90], bytes("  "),
    ]
    var random = SplitMix(state: 2)
    for _ in 0..<3_000 {
      var ids: [Int32] = []
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        ids += runs[Int.random(in: 0..<runs.count, using: &random)].map(byte)
        ids.append(Int32.random(in: 260...450, using: &random))
      }
      let whole = tokenizer.tokenizer.decode(ids, skipSpecialTokens: true)
      #expect(streamed(tokenizer.tokenizer, ids) == bytes(whole), "\(ids)")
    }
  }

  @Test func streamKeepsTheWholeCharactersOfABrokenRun() throws {
    let golden = try GoldenTokenizer("llama2")
    let ids = (bytes("é") + [0xFF, 0xE4, 0xBD] + bytes("x")).map { Int32($0) + 3 }
    #expect(
      String(decoding: streamed(golden.tokenizer, ids), as: UTF8.self)
        == "é\u{FFFD}\u{FFFD}\u{FFFD}x")
    let whole = golden.tokenizer.decode(ids, skipSpecialTokens: true)
    #expect(whole == String(repeating: "\u{FFFD}", count: 6))
  }
}
