import Foundation
import PIOEval
import Testing

struct AnswerLogTests {
  private let first = AnswerLog.Key(setting: 1, question: .max)
  private let second = AnswerLog.Key(setting: 2, question: 0)
  private let answer = Answer(text: "a \"b\"\n\\ \u{1} é 😀", prefillMilliseconds: 12.345)

  private func fill(_ path: String) throws {
    let log = try AnswerLog(path: path)
    try log.append([(first, answer)])
    try log.append([(second, Answer(text: "", prefillMilliseconds: 0))])
  }

  @Test func keepsAnswersForTheNextRun() throws {
    let path = Scratch.file("")
    try fill(path)
    let log = try AnswerLog(path: path)
    #expect(log.count == 2 && log[first] == answer)
    #expect(log[second] == Answer(text: "", prefillMilliseconds: 0))
    #expect(log[AnswerLog.Key(setting: 2, question: 1)] == nil)
  }

  /// Killed at any byte: whole lines count, the torn one is gone, and the file can grow on.
  @Test func cutsATornLastLineAtEveryByte() throws {
    let whole = Scratch.file("")
    try fill(whole)
    let bytes = Array(Scratch.text(whole).utf8)
    let firstLine = bytes.firstIndex(of: 10)! + 1
    for length in 0...bytes.count {
      let path = Scratch.file(String(decoding: bytes[..<firstLine], as: UTF8.self))
      try Data(bytes[..<length]).write(to: URL(fileURLWithPath: path))
      do {
        let log = try AnswerLog(path: path)
        #expect(log.count == (length == bytes.count ? 2 : length >= firstLine ? 1 : 0))
        if log[first] == nil { try log.append([(first, answer)]) }
        if log[second] == nil {
          try log.append([(second, Answer(text: "", prefillMilliseconds: 0))])
        }
      }
      #expect(Array(Scratch.text(path).utf8) == bytes)
      try FileManager.default.removeItem(atPath: path)
    }
  }

  @Test func refusesAnotherFileAndASecondWriter() throws {
    let other = Scratch.file("hello\nworld\n")
    #expect(
      throws: EvalError.badLine(
        path: other, line: 1, problem: "not an answer that an evaluation has kept")
    ) { _ = try AnswerLog(path: other) }
    #expect(Scratch.text(other) == "hello\nworld\n")
    let path = Scratch.file("")
    let log = try AnswerLog(path: path)
    #expect(throws: EvalError.answersInUse(path: path)) { _ = try AnswerLog(path: path) }
    try log.append([(first, answer)])
  }
}
