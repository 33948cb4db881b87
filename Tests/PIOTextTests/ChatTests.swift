import PIOBase
import Foundation
import PIOConvert
import PIOFormat
import PIOText
import Testing

struct ChatTests {
  private struct Case: Decodable {
    let template: String
    let begin: String
    let text: String
    let system: String
    let turns: [Turn]
  }

  private struct Turn: Decodable {
    let turn: PromptTemplate.Turn
    init(from decoder: any Decoder) throws {
      var values = try decoder.unkeyedContainer()
      turn = PromptTemplate.Turn(
        imageCount: try values.decode(Int.self), question: try values.decode(String.self),
        answer: try values.decodeIfPresent(String.self))
    }
  }

  private static let folder = goldenFolder.appendingPathComponent("chat")

  @Test func conversationsReadAsTheReferenceRendersThem() throws {
    let file = Self.folder.appendingPathComponent("golden.json")
    let cases = try JSONDecoder().decode([Case].self, from: Data(contentsOf: file))
    #expect(cases.count > 30)
    for one in cases {
      let template = try #require(try readChatTemplate(one.template))
      let text = template.render(
        system: one.system.isEmpty ? nil : one.system, turns: one.turns.map(\.turn)
      ).map(\.string).joined()
      // What the tokenizer adds itself, or what the template's own text begins with.
      let begin = template.addsBeginToken && one.text.hasPrefix(one.begin) ? one.begin : ""
      // Each family has a name of its own for an image; this vocabulary has one alone.
      let expected = one.text.replacingOccurrences(of: "<|image_pad|>", with: "<image>")
      #expect(bytes(begin + text) == bytes(expected), "\(one.template)")
    }
  }

  @Test func aChangedTemplateIsNotGuessed() throws {
    let file = Self.folder.appendingPathComponent("llava.jinja")
    let jinja = try String(contentsOf: file, encoding: .utf8)
    for (from, to) in [("ASSISTANT:", "BOT:"), ("<image>\\n", "<image>"), ("{{", "Hi! {{")] {
      let changed = jinja.replacingOccurrences(of: from, with: to)
      let folder = try Checkpoint(jinja: changed)
      #expect(throws: TokenizerConvertError.unknownChatTemplate(file: "chat_template.jinja")) {
        try folder.read(chatTemplate: nil, imageTokenID: 3)
      }
    }
    let same = try Checkpoint(jinja: jinja.replacingOccurrences(of: "'", with: "\""))
    #expect(try same.read(chatTemplate: nil, imageTokenID: 3).prompt.name == "llava")
  }

  @Test func aModelThatSeesNeedsATemplate() throws {
    let folder = try Checkpoint(jinja: nil)
    #expect(throws: TokenizerConvertError.noChatTemplate) {
      try folder.read(chatTemplate: nil, imageTokenID: 3)
    }
    #expect(try folder.read(chatTemplate: nil, imageTokenID: nil).prompt.name == "plain")
    #expect(throws: TokenizerConvertError.noSuchChatTemplate(name: "lava")) {
      try folder.read(chatTemplate: "lava", imageTokenID: 3)
    }
    for name in chatTemplateNames {
      #expect(try folder.read(chatTemplate: name, imageTokenID: 3).prompt.name == name)
    }
  }

  @Test func theDemoKnowsItsTokens() throws {
    let converted = try convert("demo")
    #expect(converted.prompt.name == "vicuna")
    #expect(converted.special.begin == 1)
    #expect(converted.special.end == [2])
    #expect(converted.special.image == 978)
    let memory = SectionMemory(converted.section)
    let tokenizer = try memory.tokenizer(vocabSize: 1024)
    let ids = tokenizer.encode("USER: <image>\nHi ASSISTANT:", addSpecialTokens: true)
    #expect(ids.first == 1 && ids.filter { $0 == 978 }.count == 1)
  }

  private func readChatTemplate(_ name: String) throws -> PromptTemplate? {
    let file = Self.folder.appendingPathComponent("\(name).jinja")
    let folder = try Checkpoint(jinja: try String(contentsOf: file, encoding: .utf8))
    let prompt = try folder.read(chatTemplate: nil, imageTokenID: 3).prompt
    // The published texts differ in what no first question shows.
    let same = [
      "llava_vicuna": "llava", "llava_mistral_first": "llava_mistral",
      "llava_mistral_slip": "llava_mistral", "smolvlm2": "smolvlm",
    ]
    #expect(prompt.name == same[name] ?? name)
    return prompt
  }
}
