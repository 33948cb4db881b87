import FoundationEssentials
import Glibc
import PIORuntime
import PIOVision

/// What `run` does with an runtime: one answer, a line at a time, or a chat.
struct Turns {
  let slot: Slot
  let raw: Bool
  let system: String?
  let maxTokens: Int
  let stats: Bool
  let loadMilliseconds: Double
  let dumpLogits: String?
  let dumpSaliency: String?
  let explain: String?

  func answerOnce(_ runtime: inout Runtime, text: String, images: [String], json: Bool) throws {
    var answer: [UInt8] = []
    let output = Output()
    let generation = try generate(&runtime, text, images, isFirst: true) { bytes in
      if json { answer += bytes } else { output.write(bytes) }
    }
    if !json { output.write("\n") }
    let report = RunReport(
      generation, answer: String(decoding: answer, as: UTF8.self), runtime: runtime,
      loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.processToFirstTokenMilliseconds)
    if json { output.write(try jsonLine(report) + "\n") }
    try output.check()
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
  func answerLines(_ runtime: inout Runtime) throws {
    var input = Input(maxByteCount: runtime.maxLineBytes)
    while true {
      let text: String
      switch try input.line() {
      case .end: return
      case .tooLong:
        let problem = "a line longer than \(input.maxByteCount) bytes"
        try printOutput(jsonLine(Failure(error: problem)))
        continue
      case .text(let line): text = line
      }
      guard text.contains(where: { !$0.isWhitespace }) else { continue }
      runtime.reset(slot)
      let result: String
      do {
        result = try answerLine(&runtime, text)
      } catch let error as RuntimeError where error.isFatal {
        throw error
      } catch {
        result = try jsonLine(Failure(error: oneLine(error)))
      }
      try printOutput(result)
    }
  }

  private func answerLine(_ runtime: inout Runtime, _ text: String) throws -> String {
    // Each value costs the decoder many times its length: a line with more of them than a request has is none.
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
    let generation = try generate(&runtime, line.prompt, images, isFirst: true) { answer += $0 }
    let report = RunReport(
      generation, answer: String(decoding: answer, as: UTF8.self), runtime: runtime,
      loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.firstTokenMilliseconds)
    return try jsonLine(report)
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
        if byte == UInt8(ascii: "\\") { isEscaped = true }
        if byte == UInt8(ascii: "\"") { isInString = false }
      } else if byte == UInt8(ascii: "\"") {
        isInString = true
      } else if byte == UInt8(ascii: ",") || byte == UInt8(ascii: "[") || byte == UInt8(ascii: "{")
      {
        count += 1
      }
    }
    return count
  }

  private struct LineError: Error, CustomStringConvertible {
    let description: String
  }

  private func oneLine(_ error: any Error) -> String {
    "\(error)".split(whereSeparator: \.isNewline).joined(separator: " ")
  }

  // MARK: Chat

  /// What the chat shows the model.
  private struct Images {
    /// Shown again after a reset.
    var current: [String]
    /// Shown with the next question.
    var pending: [String]
  }

  func chat(_ runtime: inout Runtime, images: [String]) throws {
    var images = Images(current: images, pending: images)
    var isFirst = true
    var input = Input(maxByteCount: runtime.maxTextBytes)
    let output = Output()
    printError("/image FILE shows another image, /reset forgets, /quit ends.")
    while true {
      try output.check()
      output.write("> ")
      guard case .text(let line) = try input.line() else { return output.write("\n") }
      let words = line.split(separator: " ", maxSplits: 1).map(trimmed)
      switch words.first {
      case nil: continue
      case "/quit": return
      case "/reset":
        runtime.reset(slot)
        isFirst = true
        images.pending = images.current
      case "/image":
        guard words.count == 2 else {
          printError("/image takes the name of a file")
          continue
        }
        do {
          try runtime.check(.file(words[1]), in: slot)
          images.pending = [words[1]]
        } catch {
          printError("error: \(error)")
        }
      case let word? where word.hasPrefix("/"):
        printError("\(word) is not known: /image FILE, /reset, /quit")
      default:
        do {
          let generation = try generate(
            &runtime, line, images.pending, isFirst: isFirst, emit: output.write)
          output.write("\n")
          if !images.pending.isEmpty { images.current = images.pending }
          images.pending = []
          isFirst = false
          if stats { printStats(generation, runtime) }
        } catch let error as RuntimeError {
          printError("error: \(error)")
          if case .nonFiniteLogits = error { throw error }
          if error.isFatal { throw error }
          // The session is as it was: so is what it is shown.
          images.pending = isFirst ? images.current : []
        }
      }
    }
  }

  private func trimmed(_ text: Substring) -> String {
    String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }

  private func printStats(_ generation: Generation, _ runtime: borrowing Runtime) {
    let report = RunReport(
      generation, answer: "", runtime: runtime, loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.firstTokenMilliseconds)
    printError(report.summary)
  }

  // MARK: One turn

  private func generate(
    _ runtime: inout Runtime, _ text: String, _ images: [String], isFirst: Bool,
    emit: (UnsafeBufferPointer<UInt8>) -> Void
  ) throws -> Generation {
    let tokens =
      raw
      ? try runtime.rawTokens(text, isFirst: isFirst)
      : try runtime.turnTokens(
        text, system: isFirst ? system : nil, imageCount: images.count, isFirst: isFirst)
    var request = Request(tokens: tokens, images: images.map { .file($0) }, maxTokens: maxTokens)
    var logits: [Float] = []
    if dumpLogits != nil { request.inspectLogits = { logits = Array($0) } }
    let generation = try runtime.generate(slot, request) { bytes in
      emit(bytes)
      return true
    }
    if let dumpLogits { try writeLogits(logits, to: dumpLogits) }
    try writePruning(runtime, images)
    return generation
  }

  /// What the turn's stages did, where somebody asked. A turn without images leaves the files as they are.
  private func writePruning(_ runtime: borrowing Runtime, _ images: [String]) throws {
    guard !images.isEmpty else { return }
    if let dumpSaliency {
      let stages = runtime.pruningStages.map(SaliencyReport.init)
      try write(Array((jsonLine(stages) + "\n").utf8), to: dumpSaliency)
    }
    if let explain {
      let drawing = try runtime.explain(images.map { .file($0) })
      try writePNG(drawing.pixels, width: drawing.width, height: drawing.height, path: explain)
      let words = ExplanationReport(
        drawing: explain, method: runtime.plan.limits.pruning.method.rawValue, images: images,
        stages: runtime.pruningStages)
      try write(Array((jsonLine(words) + "\n").utf8), to: explain + ".json")
    }
  }

  private func writeLogits(_ logits: [Float], to path: String) throws(ConsoleError) {
    try write(logits.withUnsafeBytes { Array($0) }, to: path)
  }

  private func write(_ bytes: [UInt8], to path: String) throws(ConsoleError) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o644)
    guard descriptor >= 0 else { throw .cannotWrite(what: path, errno: errno) }
    let count = bytes.count
    let written = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, count) }
    let failure = written == count ? 0 : written < 0 ? errno : ENOSPC
    guard close(descriptor) == 0, failure == 0 else {
      throw .cannotWrite(what: path, errno: failure == 0 ? errno : failure)
    }
  }
}
