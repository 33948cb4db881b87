import FoundationEssentials
import Glibc
import PIORuntime

/// What `run` does with an engine: one answer, a line at a time, or a chat.
struct Turns {
  let raw: Bool
  let system: String?
  let maxTokens: Int
  let stats: Bool
  let loadMilliseconds: Double
  let dumpLogits: String?

  func answerOnce(_ engine: inout Engine, text: String, images: [String], json: Bool) throws {
    var answer: [UInt8] = []
    let generation = try generate(&engine, text, images, isFirst: true) { bytes in
      if json { answer += bytes } else { write(bytes) }
    }
    let report = RunReport(
      generation, answer: String(decoding: answer, as: UTF8.self), engine: engine,
      loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.processToFirstTokenMilliseconds)
    print(json ? try jsonLine(report) : "")
    if stats { printError(report.summary) }
  }

  // MARK: Lines

  private struct Line: Decodable {
    var image: String?
    var images: [String]?
    var prompt: String
  }

  private struct Failure: Encodable {
    var error: String
  }

  /// One result or error object for every line of stdin, flushed as it is ready. Each line is a conversation of its own.
  func answerLines(_ engine: inout Engine) throws {
    while let text = readLine() {
      guard text.contains(where: { !$0.isWhitespace }) else { continue }
      engine.reset()
      do {
        print(try answerLine(&engine, text))
      } catch {
        print(try jsonLine(Failure(error: oneLine(error))))
      }
      fflush(nil)
    }
  }

  private func answerLine(_ engine: inout Engine, _ text: String) throws -> String {
    let line: Line
    do {
      line = try JSONDecoder().decode(Line.self, from: Data(text.utf8))
    } catch {
      throw LineError(
        description: "not a line of the form {\"image\": \"FILE\", \"prompt\": \"TEXT\"}")
    }
    var answer: [UInt8] = []
    let images = line.images ?? (line.image.map { [$0] } ?? [])
    let generation = try generate(&engine, line.prompt, images, isFirst: true) { answer += $0 }
    let report = RunReport(
      generation, answer: String(decoding: answer, as: UTF8.self), engine: engine,
      loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.firstTokenMilliseconds)
    return try jsonLine(report)
  }

  private struct LineError: Error, CustomStringConvertible {
    let description: String
  }

  private func oneLine(_ error: any Error) -> String {
    "\(error)".split(whereSeparator: \.isNewline).joined(separator: " ")
  }

  // MARK: Chat

  func chat(_ engine: inout Engine, images: [String]) throws {
    var images = images
    var shown = false
    var isFirst = true
    printError("/image FILE shows another picture, /reset forgets, /quit ends.")
    while true {
      write("> ")
      guard let line = readLine() else { return print("") }
      let words = line.split(separator: " ", maxSplits: 1).map(String.init)
      switch words.first {
      case nil: continue
      case "/quit": return
      case "/reset":
        engine.reset()
        (isFirst, shown) = (true, false)
      case "/image":
        guard words.count == 2 else {
          printError("/image takes the name of a file")
          continue
        }
        (images, shown) = ([words[1]], false)
      case let word? where word.hasPrefix("/"):
        printError("\(word) is not known: /image FILE, /reset, /quit")
      default:
        do {
          let generation = try generate(
            &engine, line, shown ? [] : images, isFirst: isFirst, emit: write)
          print("")
          (isFirst, shown) = (false, true)
          if stats { printStats(generation, engine) }
        } catch let error as RuntimeError {
          printError("error: \(error)")
          if case .nonFiniteLogits = error { throw error }
        }
      }
    }
  }

  private func printStats(_ generation: Generation, _ engine: borrowing Engine) {
    let report = RunReport(
      generation, answer: "", engine: engine, loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.firstTokenMilliseconds)
    printError(report.summary)
  }

  // MARK: One turn

  private func generate(
    _ engine: inout Engine, _ text: String, _ images: [String], isFirst: Bool,
    emit: (UnsafeBufferPointer<UInt8>) -> Void
  ) throws -> Generation {
    let tokens =
      raw
      ? engine.rawTokens(text, isFirst: isFirst)
      : engine.turnTokens(
        text, system: isFirst ? system : nil, imageCount: images.count, isFirst: isFirst)
    var request = Request(tokens: tokens, images: images, maxTokens: maxTokens)
    var logits: [Float] = []
    if dumpLogits != nil { request.inspectLogits = { logits = Array($0) } }
    defer { if let dumpLogits, !logits.isEmpty { writeLogits(logits, to: dumpLogits) } }
    return try engine.generate(request, emit: emit)
  }

  private func writeLogits(_ logits: [Float], to path: String) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    let count = logits.count * 4
    let written = logits.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, count) }
    if descriptor < 0 || written != count || close(descriptor) != 0 {
      printError("error: cannot write \(path) (errno \(errno))")
    }
  }
}

/// To stdout at once.
func write(_ bytes: UnsafeBufferPointer<UInt8>) {
  fflush(nil)
  var rest = bytes[...]
  while !rest.isEmpty {
    let count = UnsafeBufferPointer(rebasing: rest)
    let written = Glibc.write(STDOUT_FILENO, count.baseAddress, count.count)
    if written < 0 && errno != EINTR { return }
    rest = rest.dropFirst(max(0, written))
  }
}

func write(_ text: String) {
  var text = text
  text.withUTF8 { write($0) }
}

func printError(_ text: String) {
  fflush(nil)
  let line = text + "\n"
  _ = line.utf8.withContiguousStorageIfAvailable {
    Glibc.write(STDERR_FILENO, $0.baseAddress, $0.count)
  }
}
