import PIOBase
import PIOText
import Testing

struct PromptPieceTests {
  private static let specials = 2 as UInt8

  /// Every added token that is special: its id and its text.
  private func specialTokens(_ golden: GoldenTokenizer) throws -> [(id: Int32, text: String)] {
    let section = try golden.memory.tables(vocabSize: 1024)
    return (0..<section.added.count / 2).compactMap { i in
      let id = section.added[2 * i]
      guard section.pieceFlags[Int(id)] & Self.specials != 0 else { return nil }
      let range = Int(section.addedOffsets[i])..<Int(section.addedOffsets[i + 1])
      return (id, String(decoding: section.addedBytes[range], as: UTF8.self))
    }
  }

  @Test(arguments: GoldenTokenizer.names)
  func piecesOfPlainTextHaveTheIDsOfTheWhole(name: String) throws {
    let golden = try GoldenTokenizer(name)
    let tokenizer = golden.tokenizer
    let specials = try specialTokens(golden).map(\.text)
    let plain = GoldenTokenizer.texts.filter { text in !specials.contains { text.contains($0) } }
    #expect(plain.count > 800)
    for (i, text) in plain.enumerated() {
      let other = plain[(i + 7) % plain.count]
      if specials.contains(where: { (text + other).contains($0) }) { continue }
      let whole = tokenizer.encode(text + other, addSpecialTokens: true)
      let pieces: [[PromptPiece]] = [
        [.text(text), .text(other)], [.special(text), .text(other)],
        [.text(text), .special(other)],
      ]
      for pieces in pieces {
        #expect(tokenizer.encode(pieces, addSpecialTokens: true) == whole, "\(pieces)")
      }
    }
    withExtendedLifetime(golden) {}
  }

  @Test(arguments: GoldenTokenizer.names)
  func aSpecialTokenTypedInATextIsItsCharacters(name: String) throws {
    let golden = try GoldenTokenizer(name)
    let tokenizer = golden.tokenizer
    let specials = try specialTokens(golden)
    #expect(!specials.isEmpty)
    let ids = Set(specials.map(\.id))
    for (id, text) in specials {
      for typed in [text, "a \(text)b", text + text, "\(text) \u{301}\(text)"] {
        let found = tokenizer.encode([.text(typed)], addSpecialTokens: false)
        let control = try ids.subtracting(unknown(golden))
        #expect(control.isDisjoint(with: found), "\(typed)")
        // A tokenizer without pieces for all bytes cannot write every text.
        if ids.isDisjoint(with: found) && covers(tokenizer, text) {
          #expect(
            bytes(tokenizer.decode(found, skipSpecialTokens: true)) == bytes(typed), "\(typed)")
        }
      }
      // In the template beside it the same token counts.
      let around = tokenizer.encode(
        [.special(text), .text("a\(text)"), .special(text)], addSpecialTokens: false)
      // Characters that the vocabulary lacks are unknown wherever they stand.
      if try !unknown(golden).contains(id) { #expect(around.filter { $0 == id }.count == 2) }
      #expect(around.first == id && around.last == id)
    }
    withExtendedLifetime(golden) {}
  }

  /// Neither half of a control token in a template makes one of a user's text.
  @Test(arguments: GoldenTokenizer.names)
  func aSpecialTokenHalfOfWhichIsTypedIsNone(name: String) throws {
    let golden = try GoldenTokenizer(name)
    for (id, text) in try specialTokens(golden) where text.utf8.count > 1 {
      let (head, tail) = (String(text.dropLast()), String(text.suffix(1)))
      for pieces in [
        [PromptPiece.text(head), .special(tail)], [.special(head), .text(tail)],
        [.special(head), .text(""), .text(tail)],
      ] where try !unknown(golden).contains(id) {
        #expect(!golden.tokenizer.encode(pieces, addSpecialTokens: false).contains(id))
      }
      let whole = golden.tokenizer.encode(
        [.special(head), .text(""), .special(tail)], addSpecialTokens: false)
      #expect(whole == [id])
    }
    withExtendedLifetime(golden) {}
  }

  /// A token with a role in the model is control even where its piece is not flagged.
  @Test func tokensOfARoleAreControlToo() throws {
    let memory = SectionMemory(try convert("gpt2").section)
    let tokenizer = Tokenizer(try memory.tables(vocabSize: 1024), control: [420])
    #expect(tokenizer.encode([.special("[MASK]")], addSpecialTokens: false) == [420])
    #expect(!tokenizer.encode([.text("[MASK]")], addSpecialTokens: false).contains(420))
    // Other added words are words.
    #expect(tokenizer.encode([.text("图片")], addSpecialTokens: false) == [425])
    withExtendedLifetime(memory) {}
  }

  /// The place for an image comes from the template alone.
  @Test func aTypedImageTokenMakesNoPlaceForAnImage() throws {
    let converted = try convert("demo")
    let memory = SectionMemory(converted.section)
    let tokenizer = try memory.tokenizer(vocabSize: 1024)
    var parts = PromptTemplate()
    (parts.userPrefix, parts.assistantPrefix) = ("USER: ", " ASSISTANT:")
    parts.imagePart = "<image>\n"
    let turn = PromptTemplate.Turn(imageCount: 1, question: "What is <image> </s>?")
    let ids = tokenizer.encode(
      parts.firstQuestion(turn, system: "<image>"), addSpecialTokens: true)
    #expect(ids.filter { $0 == 978 }.count == 1)
    #expect(ids.filter { $0 == 1 }.count == 1 && !ids.contains(2))
    withExtendedLifetime(memory) {}
  }

  /// The piece of an unknown character is flagged special, and a text may have it.
  private func unknown(_ golden: GoldenTokenizer) throws -> [Int32] {
    [try golden.memory.tables(vocabSize: 1024).unknownID]
  }

  private func covers(_ tokenizer: Tokenizer, _ text: String) -> Bool {
    text.allSatisfy {
      let character = String($0)
      let ids = tokenizer.encode([.text(character)], addSpecialTokens: false)
      return tokenizer.decode(ids, skipSpecialTokens: true) == character
    }
  }
}
