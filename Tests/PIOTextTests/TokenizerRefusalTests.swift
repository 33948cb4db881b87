import Foundation
import PIOConvert
import Testing

/// What the runtime would not do as the reference does is refused, by name, in one line.
struct TokenizerRefusalTests {
  private func refusal(_ change: (inout [String: Any]) -> Void) throws -> String {
    let checkpoint = try Checkpoint(change: change)
    do throws(TokenizerConvertError) {
      _ = try checkpoint.read()
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  @Test(
    arguments: [
      ("normalizer", ["type": "NFKC"], "normalizer 'NFKC'"),
      ("normalizer", ["type": "Lowercase"], "normalizer 'Lowercase'"),
      ("normalizer", ["type": "Prepend", "prepend": "x"], "normalizer 'Prepend'"),
      ("pre_tokenizer", ["type": "Whitespace"], "pre-tokenizer 'Whitespace'"),
      ("pre_tokenizer", ["type": "BertPreTokenizer"], "'BertPreTokenizer'"),
      ("post_processor", ["type": "BertProcessing"], "post-processor 'BertProcessing'"),
      ("decoder", ["type": "WordPiece"], "decoder 'WordPiece'"),
      ("decoder", ["type": "Metaspace", "replacement": "_"], "decoder 'Metaspace'"),
      ("model", ["type": "Unigram"], "model 'Unigram'"),
    ] as [(String, [String: String], String)])
  func namesWhatItCannotDo(part: String, value: [String: String], named: String) throws {
    let said = try refusal { $0[part] = value }
    #expect(said.contains(named) && said.contains("not supported"), "\(said)")
    #expect(!said.contains("\n"))
  }

  @Test func refusesAnUnknownSplitPattern() throws {
    let said = try refusal {
      $0["pre_tokenizer"] = [
        "type": "Sequence",
        "pretokenizers": [
          [
            "type": "Split", "pattern": ["Regex": "\\w+"], "behavior": "Isolated", "invert": false,
          ] as [String: Any],
          ["type": "ByteLevel", "add_prefix_space": false, "use_regex": false],
        ],
      ]
    }
    #expect(said.contains("pattern '\\w+'"), "\(said)")
  }

  @Test func refusesModelsThatContradictThemselves() throws {
    func model(_ vocabulary: [String: Int], _ merges: [[String]]) throws -> String {
      try refusal {
        $0["model"] = ["type": "BPE", "vocab": vocabulary, "merges": merges] as [String: Any]
      }
    }
    #expect(try model(["a": 0, "b": 0], []).contains("two tokens"))
    #expect(try model(["a": 0, "b": 99], []).contains("id 99"))
    #expect(try model(["a": 0, "b": -1], []).contains("id -1"))
    #expect(try model([:], []).contains("no vocabulary"))
    #expect(try model(["a": 0, "b": 1], [["a", "b"]]).contains("merge 0"))
    #expect(try model(["a": 0, "b": 1], [["a"]]).contains("not a pair"))
  }

  @Test func refusesFilesThatAreNoJSON() throws {
    for text in [
      "", "{", "[1,]", "{\"a\":}", "\"\\ud800\"", "nul", "{\"a\" 1}", "1 2", "\"\u{1}", "-",
      String(repeating: "[", count: 100_000),
    ] {
      let checkpoint = try Checkpoint()
      try checkpoint.write(text, "tokenizer.json")
      do throws(TokenizerConvertError) {
        _ = try checkpoint.read()
        Issue.record("accepted \(text.prefix(20))")
      } catch {
        guard case .badJSON(file: "tokenizer.json", _) = error else {
          Issue.record("\(text.prefix(20)): \(error)")
          continue
        }
      }
    }
  }

  @Test func canonicallyEquivalentPiecesStayApart() throws {
    let checkpoint = try Checkpoint()
    try checkpoint.write(
      """
      {"added_tokens": [], "decoder": {"type": "Fuse"}, "model": {"type": "BPE", "merges": [],
      "vocab": {"\u{e9}": 0, "e": 1, "\\u0301": 2, "\u{212b}": 3, "\u{c5}": 4, "e\\u0301": 5}}}
      """, "tokenizer.json")
    let memory = SectionMemory(try checkpoint.read().section)
    let tokenizer = try memory.tokenizer(vocabSize: 16)
    let ids = tokenizer.encode("\u{e9}e\u{301}\u{c5}\u{212b}", addSpecialTokens: false)
    #expect(ids == [0, 1, 2, 4, 3])
  }

  @Test func anImageTokenTheTokenizerLacksIsAdded() throws {
    let checkpoint = try Checkpoint()
    let converted = try checkpoint.read(imageTokenID: 7)
    let memory = SectionMemory(converted.section)
    let tokenizer = try memory.tokenizer(vocabSize: 16)
    #expect(tokenizer.encode("ab<image>a", addSpecialTokens: false) == [2, 7, 0])
    #expect(converted.special.image == 7)
    #expect(throws: TokenizerConvertError.self) { try checkpoint.read(imageTokenID: 16) }
  }
}
