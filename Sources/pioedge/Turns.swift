import PIOFormat
import PIORuntime
import PIOVision

/// What `run` does with a runtime: one answer, a line at a time, or a chat.
struct Turns {
  let slot: Slot
  let raw: Bool
  let system: String?
  let maxTokens: Int
  let stats: Bool
  let loadMilliseconds: Double
  let diagnostics: DiagnosticOptions

  func answerOnce(_ runtime: Runtime, text: String, images: [String], json: Bool) throws {
    var answer: [UInt8] = []
    let output = Output()
    let generation = try generate(runtime, text, images, isFirst: true) { bytes in
      if json { answer += bytes } else { output.write(bytes) }
    }
    if !json { output.write("\n") }
    let report = RunReport(
      generation, answer: String(decoding: answer, as: UTF8.self), runtime: runtime,
      loadMilliseconds: loadMilliseconds,
      firstTokenMilliseconds: generation.processToFirstTokenMilliseconds)
    if json { output.write(try jsonText(report) + "\n") }
    try output.check()
    if stats { printError(report.summary) }
  }

  /// One turn of whichever kind.
  func generate(
    _ runtime: Runtime, _ text: String, _ images: [String], isFirst: Bool,
    emit: (UnsafeBufferPointer<UInt8>) -> Void
  ) throws -> Generation {
    let tokens =
      raw
      ? try runtime.rawTokens(text, isFirst: isFirst)
      : try runtime.turnTokens(
        text, system: isFirst ? system : nil, imageCount: images.count, isFirst: isFirst)
    var request = Request(
      tokens: tokens, images: images.map { .file($0) }, maxTokens: maxTokens)
    var logits: [Float] = []
    let dumpLogits = diagnostics.dumpLogits
    if dumpLogits != nil { request.inspectLogits = { logits = Array($0) } }
    let generation = try runtime.generate(slot, request) { bytes in
      emit(bytes)
      return true
    }
    if let dumpLogits { try writeFile(logits.withUnsafeBytes(Array.init), to: dumpLogits) }
    try writePruning(runtime, images)
    return generation
  }

  /// What the turn's stages did, where somebody asked. A turn without images leaves the files as they are.
  private func writePruning(_ runtime: Runtime, _ images: [String]) throws {
    guard !images.isEmpty else { return }
    if let path = diagnostics.dumpSaliency {
      try write(runtime.pruningStages.map(SaliencyReport.init), to: path)
    }
    if let path = diagnostics.explain {
      let drawing = try runtime.explain(images.map { .file($0) })
      let image = try encodePNG(drawing.pixels, width: drawing.width, height: drawing.height)
      try writeFile(image, to: path)
      let words = ExplanationReport(
        drawing: path, method: runtime.plan.limits.pruning.method.rawValue, images: images,
        stages: runtime.pruningStages)
      try write(words, to: path + ".json")
    }
  }

  private func write(_ report: some Encodable, to path: String) throws {
    try writeFile(Array((jsonText(report) + "\n").utf8), to: path)
  }
}
