import FoundationEssentials
import PIORuntime

/// `run --jsonl`: a question a line, each a conversation of its own.
extension Turns {
  private struct Line: Decodable {
    var image: String?
    var images: [String]?
    var prompt: String
  }

  private struct Failure: Encodable {
    var error: String
  }

  private struct LineError: Error, CustomStringConvertible {
    let description: String
  }

  /// One result or error object for every line of stdin, flushed as it is ready.
  func answerLines(_ runtime: Runtime) throws {
    var input = Input(maxByteCount: runtime.maxLineBytes)
    while true {
      switch try input.line() {
      case .end: return
      case .tooLong:
        let problem = "a line longer than \(input.maxByteCount) bytes"
        try printOutput(jsonText(Failure(error: problem)))
      case .text(let line) where line.allSatisfy(\.isWhitespace): continue
      case .text(let line): try printOutput(answerOrFailure(runtime, line))
      }
    }
  }

  private func answerOrFailure(_ runtime: Runtime, _ text: String) throws -> String {
    runtime.reset(slot)
    do {
      return try answerLine(runtime, text)
    } catch let error as RuntimeError where error.isFatal {
      throw error
    } catch {
      let problem = "\(error)".split(whereSeparator: \.isNewline).joined(separator: " ")
      return try jsonText(Failure(error: problem))
    }
  }

  private func answerLine(_ runtime: Runtime, _ text: String) throws -> String {
    // Each value costs the decoder many times its length: what has more values than any request is not decoded.
    guard valueCount(text) <= 16 + 2 * runtime.plan.limits.imageCount else {
      throw LineError(description: "more values than \"image\", \"images\" and \"prompt\"")
    }
    let line: Line
    do {
      line = try JSONDecoder().decode(Line.self, from: Data(text.utf8))
    } catch {
      throw LineError(
        description: "not a line of the form {\"image\": \"FILE\", \"prompt\": \"TEXT\"}")
    }
    guard line.image == nil || line.images == nil else {
      throw LineError(description: "\"image\" and \"images\" in one line: give one of them")
    }
    var answer: [UInt8] = []
    let images = line.images ?? (line.image.map { [$0] } ?? [])
    let generation = try generate(runtime, line.prompt, images, isFirst: true) { answer += $0 }
    let report = RunReport(
      generation, answer: String(decoding: answer, as: UTF8.self), runtime: runtime,
      loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.firstTokenMilliseconds)
    return try jsonText(report)
  }

  /// Brackets, braces and commas outside strings.
  private func valueCount(_ text: String) -> Int {
    var count = 0
    var isInString = false
    var isEscaped = false
    for byte in text.utf8 {
      if isEscaped {
        isEscaped = false
      } else if isInString {
        isEscaped = byte == UInt8(ascii: "\\")
        isInString = byte != UInt8(ascii: "\"")
      } else if byte == UInt8(ascii: "\"") {
        isInString = true
      } else if [UInt8(ascii: ","), UInt8(ascii: "["), UInt8(ascii: "{")].contains(byte) {
        count += 1
      }
    }
    return count
  }
}
