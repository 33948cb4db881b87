import PIOBase
import Foundation
import PIOText
import Testing

struct TokenizerGoldenTests {
  @Test(arguments: GoldenTokenizer.names)
  func idsAreThoseOfTheReference(name: String) throws {
    let golden = try GoldenTokenizer(name)
    let texts = GoldenTokenizer.texts
    #expect(texts.count >= 1_000 && golden.ids.count == texts.count)
    for (text, wanted) in zip(texts, golden.ids) {
      let found = golden.tokenizer.encode(text, addSpecialTokens: true)
      #expect(found == wanted, "\(text.debugDescription)")
      let fromBytes = bytes(text).withUnsafeBufferPointer {
        golden.tokenizer.encode(utf8: $0, addSpecialTokens: true)
      }
      #expect(fromBytes == wanted)
    }
    for (text, wanted) in zip(texts, golden.bare) {
      #expect(golden.tokenizer.encode(text, addSpecialTokens: false) == wanted)
    }
  }

  /// A vocabulary in a GGUF file is the tokenizer it was made of.
  @Test(arguments: ["digits", "llama3"])
  func aGGUFVocabularyHasTheTokensOfItsTokenizer(name: String) throws {
    let golden = try GoldenTokenizer(name)
    let memory = SectionMemory(try convert("gguf_" + name).section)
    let tokenizer = try memory.tokenizer(vocabSize: 1024)
    for (text, wanted) in zip(GoldenTokenizer.texts, golden.ids) {
      let found = tokenizer.encode(text, addSpecialTokens: true)
      #expect(found == wanted, "\(text.debugDescription)")
    }
    withExtendedLifetime((golden, memory)) {}
  }

  /// A chat's later turn is encoded by itself: its tokens must be those it has in the whole conversation, which
  /// `idsAreThoseOfTheReference` ties to the reference.
  @Test(arguments: GoldenTokenizer.names)
  func aContinuedTextHasTheTokensOfTheWhole(name: String) throws {
    let golden = try GoldenTokenizer(name)
    let first = "USER: What is it? ASSISTANT: A ring."
    for second in [" USER: Where is it? ASSISTANT:", " 3 more", "\nUSER: ok ASSISTANT:"] {
      let whole = golden.tokenizer.encode(first + second, addSpecialTokens: false)
      let pieces =
        golden.tokenizer.encode(first, addSpecialTokens: false)
        + golden.tokenizer.encode(second, addSpecialTokens: false, continues: true)
      #expect(pieces == whole, "\(second)")
    }
    // The tables are views of what the fixture owns.
    withExtendedLifetime(golden) {}
  }

  @Test(arguments: GoldenTokenizer.names)
  func decodedTextsAreThoseOfTheReference(name: String) throws {
    let golden = try GoldenTokenizer(name)
    for (i, text) in GoldenTokenizer.texts.enumerated() {
      let found = golden.tokenizer.decode(golden.ids[i], skipSpecialTokens: true)
      #expect(bytes(found) == bytes(golden.decoded[String(i)] ?? text), "\(text.debugDescription)")
    }
    for sequence in golden.sequences {
      let found = golden.tokenizer.decode(sequence.ids, skipSpecialTokens: true)
      #expect(bytes(found) == bytes(sequence.text), "\(sequence.ids)")
      let whole = golden.tokenizer.decode(sequence.ids, skipSpecialTokens: false)
      #expect(bytes(whole) == bytes(sequence.withSpecials), "\(sequence.ids)")
    }
  }

  /// Words of a probe of every Unicode scalar, and NFC of every scalar, against the reference.
  @Test func everyCharacterIsClassedAsByTheReference() throws {
    let file = goldenFolder.appendingPathComponent("characters.json")
    let wanted = try JSONDecoder().decode([String: String].self, from: Data(contentsOf: file))
    let steps: [(String, TokenizerTables.Step)] = [
      ("gpt2", .gpt2), ("llama3", .llama3), ("qwen2", .qwen2), ("eachDigit", .eachDigit),
      ("digitRuns", .digitRuns),
    ]
    let scalars = (0..<0x110000 as Range<UInt32>).compactMap { Unicode.Scalar($0) }
    for (name, step) in steps {
      var hash = FNV()
      for c in scalars {
        Array("x\(c)1\(c)\(c) \(c)!\(c)\n'\(c) ".utf8).withUnsafeBufferPointer { probe in
          var start = 0
          while start < probe.count {
            let end = WordScanner(bytes: probe).end(of: step, from: start)
            hash.add(UInt64(end - start))
            start = end
          }
        }
      }
      #expect(hash.text == wanted[name], "\(name)")
    }
    var hash = FNV()
    for c in scalars {
      Array("a\(c)\u{301}\u{323}\(c)\u{338}\n".utf8).withUnsafeBufferPointer {
        for byte in compose($0) { hash.add(UInt64(byte)) }
      }
    }
    #expect(hash.text == wanted["nfc"])
  }
}

private struct FNV {
  var value: UInt64 = 0xCBF2_9CE4_8422_2325
  mutating func add(_ next: UInt64) { value = (value ^ next) &* 0x0000_0100_0000_01B3 }
  var text: String {
    let hex = String(value, radix: 16)
    return String(repeating: "0", count: 16 - hex.count) + hex
  }
}
