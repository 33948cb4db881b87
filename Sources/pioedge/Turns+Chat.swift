import PIORuntime

/// `run` on a terminal.
extension Turns {
  /// Where a conversation is.
  private struct Chat {
    /// Shown again after a reset.
    var images: [String]
    /// Shown with the next question.
    var pending: [String]
    var isFirst = true
  }

  func chat(_ runtime: Runtime, images: [String]) throws {
    var chat = Chat(images: images, pending: images)
    var input = Input(maxByteCount: runtime.maxTextBytes)
    let output = Output()
    printError("/image FILE shows another image, /reset forgets, /quit ends.")
    while true {
      try output.check()
      output.write("> ")
      switch try input.line() {
      case .end:
        output.write("\n")
        return try output.check()
      case .tooLong: printError("error: a line longer than \(input.maxByteCount) bytes")
      case .text(let line):
        let words = line.split(separator: " ", maxSplits: 1).map(trimmed)
        if words.isEmpty { continue }
        if words[0] == "/quit" { return try output.check() }
        if words[0].hasPrefix("/") {
          obey(words, &chat, runtime)
        } else {
          try ask(line, &chat, runtime, output)
        }
      }
    }
  }

  private func obey(_ words: [String], _ chat: inout Chat, _ runtime: Runtime) {
    switch words[0] {
    case "/reset":
      runtime.reset(slot)
      chat.isFirst = true
      chat.pending = chat.images
    case "/image" where words.count == 2:
      do {
        try runtime.check(.file(words[1]), in: slot)
        chat.pending = [words[1]]
      } catch {
        printError(errorLine(error))
      }
    case "/image": printError("/image takes the name of a file")
    default: printError("\(words[0]) is not known: /image FILE, /reset, /quit")
    }
  }

  private func ask(
    _ question: String, _ chat: inout Chat, _ runtime: Runtime, _ output: Output
  ) throws {
    do {
      let generation = try generate(
        runtime, question, chat.pending, isFirst: chat.isFirst, emit: output.write)
      output.write("\n")
      if !chat.pending.isEmpty { chat.images = chat.pending }
      chat.pending = []
      chat.isFirst = false
      if stats { printStats(generation, runtime) }
    } catch let error as RuntimeError {
      printError(errorLine(error))
      if case .nonFiniteLogits = error { throw error }
      if error.isFatal { throw error }
      // The session is as it was. An image that cannot be shown must not stand in the way of every other question.
      if error.isAboutImages { chat.pending = chat.isFirst ? chat.images : [] }
    }
  }

  private func trimmed(_ text: Substring) -> String {
    String(text.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
  }

  private func printStats(_ generation: Generation, _ runtime: Runtime) {
    let report = RunReport(
      generation, answer: "", runtime: runtime, loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.firstTokenMilliseconds)
    printError(report.summary)
  }
}

extension RuntimeError {
  /// Another image, or none, may go better.
  fileprivate var isAboutImages: Bool {
    switch self {
    case .image, .tooManyImages, .modelTakesNoImages: true
    default: false
    }
  }
}
