import Foundation
import PIOFormat
import PIORuntime
import Testing

/// The demo's answers beside those of `transformers` in f32: `Tests/Golden/answers`.
struct DemoAnswerTests {
  struct Answer: Decodable {
    let image: String
    let prompt: String
    let answer: String
    let tokens: [Int32]
  }

  struct Question: Decodable {
    let answer: String
  }

  static func lines<T: Decodable>(_ path: String) throws -> [T] {
    try Data(contentsOf: repository.appendingPathComponent(path)).split(separator: 0x0A)
      .map { try JSONDecoder().decode(T.self, from: $0) }
  }

  /// Texts of the answers, and how many token lists are those of `transformers`.
  private func answers(_ weights: TensorKind) throws -> (texts: [String], equal: Int, of: Int) {
    let expected: [Answer] = try Self.lines("Tests/Golden/answers/demo.jsonl")
    let path = try Files.model(
      "tools/demo/checkpoint", weights: weights, vision: weights == .f32 ? .f32 : .int8)
    var session = try makeSession(path) { $0.imageCount = 1 }
    var texts: [String] = []
    var equal = 0
    for question in expected {
      session.reset()
      let image = repository.appendingPathComponent("tools/demo/images/\(question.image)").path
      let request = Request(
        tokens: try session.rawTokens(question.prompt, isFirst: true), images: [.file(image)],
        maxTokens: 64)
      var bytes: [UInt8] = []
      let generation = try session.generate(request) {
        bytes += $0
        return true
      }
      texts.append(String(decoding: bytes, as: UTF8.self))
      let end = session.config.specialTokens.end
      if generation.tokens == question.tokens.filter({ !end.contains($0) }) { equal += 1 }
    }
    return (texts, equal, expected.count)
  }

  @Test func f32GivesTheTokensOfTransformersOnEveryQuestion() throws {
    let (texts, equal, count) = try answers(.f32)
    #expect(count >= 120 && equal == count, "\(equal) of \(count)")
    let expected: [Answer] = try Self.lines("Tests/Golden/answers/demo.jsonl")
    #expect(texts == expected.map(\.answer))
  }

  /// 137 of 150 are right in f32. The bounds leave room for a handful of near ties; the measure on thousands of
  /// questions is `tools/measure/accuracy`.
  @Test(arguments: [(TensorKind.int8, 134), (.int4, 131)])
  func quantizedWeightsKeepTheAnswersRight(_ weights: TensorKind, _ least: Int) throws {
    let questions: [Question] = try Self.lines("tools/demo/questions.jsonl")
    let (texts, _, count) = try answers(weights)
    let right = zip(texts, questions).filter { $0 == $1.answer }.count
    print("demo, \(weights): \(right) of \(count) right")
    #expect(count == questions.count && right >= least)
  }
}
