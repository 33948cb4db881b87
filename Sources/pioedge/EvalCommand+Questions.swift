import ArgumentParser
import Glibc
import PIOEval
import PIOFormat
import PIORuntime

/// What its answers about images are worth.
extension EvalCommand {
  func evaluateQuestions() throws {
    // Before the model is opened: what they take counts among what the process has.
    let questions = try QuestionSet(path: questions!, limit: limit)
    try room.checkCap()
    let file = try room.open(model)
    guard let vision = file.config.vision else { throw RuntimeError.modelTakesNoImages }
    let comparison = try comparison(file.config, vision, imageCount: questions.images.count)
    var limits = room.limits(for: file.config, imageCount: 1, isConversation: true)
    limits.pruning = comparison.settings[0].pruning
    limits.alternatives = comparison.settings.dropFirst().map(\.pruning)
    let evaluation = Evaluation(
      questions: questions, comparison: comparison, folder: images!, maxTokens: room.maxTokens,
      identity: identity(file, limits))
    if let report { try makeFolder(report) }
    let log = try AnswerLog(path: report.map { "\($0)/answers.jsonl" })
    // Encoded images are kept beside what is planned: the process is measured with their memory in it.
    let features = [Float](repeating: 0, count: comparison.keptRows(vision) * file.config.text.dim)
    let runtime = try Runtime(
      file, limits: limits, fit: fit?.preprocessing, isa: kernelsFromEnvironment(), host: host)
    let slot = try runtime.begin()
    withExtendedLifetime(features) {}
    let results = Results(evaluation, try ask(evaluation, runtime, slot, log))
    if let report { try write(results, to: report, threads: limits.threadCount, isa: runtime.isa) }
    try printOutput(
      json ? jsonText(results) : results.summary(questions: questions.questions.count))
  }

  private func ask(
    _ evaluation: Evaluation, _ runtime: Runtime, _ slot: Slot, _ log: AnswerLog
  ) throws -> [[Answer]] {
    var line = ProgressLine()
    defer { line.clear() }
    return try evaluation.run(runtime, slot, log) { done, missing in
      line.show("asking", done: done, of: missing)
    }
  }

  private func comparison(
    _ model: ModelConfig, _ vision: VisionConfig, imageCount: Int
  ) throws -> Comparison {
    let shape = Comparison.Shape(
      tokens: vision.maxVisualTokenCount, layers: model.text.layerCount,
      countsVary: vision.hasSizesOfSeveralCounts)
    let comparison = Comparison(
      try variants(of: model), budgets: try budgets(layerCount: shape.layers), shape: shape,
      controls: !controls ? [] : imageCount > 1 ? [.grey, .wrong] : [.grey])
    guard !comparison.isEmpty else { throw EvalError.nothingToCompare }
    return comparison
  }

  private func budgets(layerCount: Int) throws -> [Comparison.Budget] {
    var budgets = try counts(visualTokens, "--visual-tokens").map(Comparison.Budget.average)
    for text in schedule {
      budgets.append(.stages(try Schedule(parsing: text, layerCount: layerCount).stages))
    }
    return budgets + (try counts(peak, "--peak").map(Comparison.Budget.peak))
  }

  /// All that decides an answer, but for the way to prune.
  private func identity(_ file: borrowing ModelFile, _ limits: Limits) -> String {
    "model=\(String(file.fingerprint, radix: 16)) kv=\(limits.kv.rawValue)"
      + " compute=\(limits.compute.rawValue) fit=\(fit?.rawValue ?? "") tokens=\(room.maxTokens)"
      + room.imageLimits
      + " context=\(limits.contextRows)"
  }

  private func makeFolder(_ path: String) throws {
    guard mkdir(path, 0o755) == 0 || errno == EEXIST else {
      throw EvalError.cannotWrite(path: path, errno: errno)
    }
  }

  private func write(_ results: Results, to folder: String, threads: Int, isa: String) throws {
    let name = model.split(separator: "/").last.map(String.init) ?? model
    let about = [
      "model `\(name)`, `\(isa)` kernels, \(threads) thread(s)",
      "cuts are `LAYER:COUNT`; 0: before the first layer, or in the encoder",
    ]
    let files = [
      ("report.md", results.markdown(title: "How much pruning costs", about: about)),
      ("results.csv", results.csv), ("results.json", try jsonText(results) + "\n"),
    ]
    for (name, text) in files {
      try writeFile(Array(text.utf8), to: "\(folder)/\(name)")
    }
  }
}

extension Results {
  /// For a terminal.
  fileprivate func summary(questions: Int) -> String {
    var rows = [["", "method", "cuts", "accuracy", "kept", "least", "same", "prefill", ""]]
    func add(_ place: String, _ row: Row) {
      rows.append([
        place, row.method, row.schedule, percent(row.accuracy), percent(row.retained),
        percent(row.lowestFamilyRetained), percent(row.agreement), decimal(row.prefillMs, 1),
        row.comparison,
      ])
    }
    add("unpruned", unpruned)
    for control in controls { add("control", control) }
    for section in tables {
      for (index, cell) in section.cells.enumerated() {
        let place = index == 0 ? "\(section.kind) \(section.budget)" : ""
        if let row = cell.row {
          add(place, row)
        } else {
          rows.append([place, cell.method, "n/a"])
        }
      }
    }
    return table(rows, right: [3, 4, 5, 6, 7]) + "\(questions) questions"
  }
}
