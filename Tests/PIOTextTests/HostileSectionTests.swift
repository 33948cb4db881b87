import PIOFormat
import PIOText
import Testing

/// A damaged section is refused, or makes a tokenizer that stays within its tables.
struct HostileSectionTests {
  private static let probe =
    "Hello <image> wörld's 1234 [MASK] <|x|>  \t\r\n 图片😀\u{301} foo bar word \u{0} the red circle"

  /// True where the section was taken; then the tokenizer has worked over it.
  private func survives(_ section: [UInt8]) -> Bool {
    let memory = SectionMemory(section)
    guard let tokenizer = try? memory.tokenizer(vocabSize: 1024) else { return false }
    let ids = tokenizer.encode(Self.probe, addSpecialTokens: true)
    // Three symbols a byte at most, and the template.
    #expect(ids.count <= 3 * Self.probe.utf8.count + 32)
    #expect(ids.allSatisfy { $0 >= 0 && $0 < 1024 })
    _ = tokenizer.decode(ids, skipSpecialTokens: false)
    let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(
      capacity: tokenizer.maxPieceByteCount + 16)
    defer { buffer.deallocate() }
    var stream = TextStream(tokenizer, buffer: buffer)
    for id in ids {
      #expect(String(validating: stream.next(id), as: UTF8.self) != nil)
      _ = tokenizer.pieceBytes(id)
    }
    #expect(String(validating: stream.finish(), as: UTF8.self) != nil)
    return true
  }

  @Test(arguments: GoldenTokenizer.names)
  func damagedBytesNeverCrash(name: String) throws {
    let whole = try convert(name).section
    #expect(survives(whole))
    var random = SplitMix(state: 3)
    var (taken, refused) = (0, 0)
    for round in 0..<1_500 {
      var section = whole
      // Half of the damage goes into the header and the first tables.
      let reach = round % 2 == 0 ? 192 : section.count
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        let at = Int.random(in: 0..<reach, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: section[at] ^= 1 << UInt8.random(in: 0..<8, using: &random)
        case 1: section[at] = .random(in: 0...255, using: &random)
        default: section[at] = [0, 1, 0x7F, 0x80, 0xFF].randomElement(using: &random)!
        }
      }
      if survives(section) { taken += 1 } else { refused += 1 }
    }
    #expect(taken > 20 && refused > 300, "\(taken) taken, \(refused) refused")
  }

  @Test func everyPrefixIsRefused() throws {
    let whole = try convert("llama2").section
    for count in Array(0..<400) + stride(from: 400, to: whole.count, by: 97) {
      #expect(!survives(Array(whole[..<count])))
    }
    #expect(!survives(whole + [0]))
  }

  @Test func aSectionForMoreRowsThanTheModelHasIsRefused() throws {
    let memory = SectionMemory(try convert("demo").section)
    #expect(throws: TokenizerSectionError.tooMany(what: "pieces", found: 980, limit: 979)) {
      try memory.tokenizer(vocabSize: 979)
    }
    _ = try memory.tokenizer(vocabSize: 980)
  }

  @Test func offsetsThatLeaveTheTextAreRefused() throws {
    var contents = TokenizerContents()
    contents.pieces = (0..<4).map { _ in .init(text: [65, 66], key: nil, flags: .known) }
    let whole = try contents.encoded()
    // Text offsets stand behind the header and the 256 byte pieces.
    for (i, value) in [(0, UInt8(1)), (1, 9), (2, 1), (4, 7), (3, 255)] {
      var section = whole
      section[128 + 1024 + 4 * i] = value
      #expect(!survives(section), "offset \(i) = \(value)")
    }
  }

  /// Long runs of anything take time in proportion: the test ends.
  @Test(arguments: ["demo", "gpt2", "llama3", "qwen2", "metaspace_first"])
  func aMegabyteOfAnythingIsEncoded(name: String) throws {
    let golden = try GoldenTokenizer(name)
    for part in [
      "a", " ", "ab", "\n", "the ", "😀", "e\u{301}\u{323}", "\u{301}", "<image", "[MASK] ",
    ] {
      let text = String(repeating: part, count: (1 << 20) / part.utf8.count)
      let ids = golden.tokenizer.encode(text, addSpecialTokens: false)
      #expect(!ids.isEmpty)
    }
  }
}
