import ArgumentParser
import PIOEval
import PIOFormat
import PIORuntime

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Measure how good a model's answers are, unpruned and pruned; or its perplexity.",
    usage:
      "pioedge eval <model> --questions <file> --images <folder> [<options>]\npioedge eval <model> --text <file> [<options>]",
    discussion: """
      Questions are JSON lines with "image", "question" (or "text") and what is right: "answer" (exact match), "answers" \
      (the VQA rule) or POPE's "label" (yes, no); a "family" or "category" where there is one. Each image is encoded \
      once; every question is asked unpruned and with each method at each budget.

      With --report, answers are kept in DIR/answers.jsonl as they come: a killed evaluation goes on where it was, and \
      another one with the same folder asks only what is new. It writes report.md, results.csv and results.json.

      With --text: the perplexity of a text, exp of the mean of -log p of each token given those before it in the same \
      window. Windows do not overlap; the first token of each is not counted.

      Examples:
        pioedge eval llava.piom --questions q.jsonl --images images
        pioedge eval llava.piom --questions q.jsonl --images images \\
          --prune pio,published,random --visual-tokens 192,64 --report results
        pioedge eval model.piom --text book.txt --window 256 --json

      \(everyOption("eval"))
      """)

  @Argument(help: ArgumentHelp("The .piom file.", valueName: "model"))
  var model: String

  @Option(help: ArgumentHelp("Questions, JSON lines.", valueName: "file"))
  var questions: String?

  @Option(help: ArgumentHelp("The folder of their images.", valueName: "folder"))
  var images: String?

  @Option(help: ArgumentHelp("Only the first n questions.", valueName: "n"))
  var limit: Int?

  @Option(
    help: ArgumentHelp(
      "Budgets: visual tokens that a layer sees on average. Unpruned is asked in any case.",
      valueName: "n,…"))
  var visualTokens: String?

  @Option(
    help: ArgumentHelp(
      "Methods, each with options behind it, as in pio:coverage=0.5 (all: \(Variant.allNames.joined(separator: ", "))). The first is compared with each of the others.",
      valueName: "method,…"))
  var prune = "pio"

  @Flag(help: "Also ask with a grey image and, where there are several, with a wrong one.")
  var controls = false

  @Option(help: ArgumentHelp("Folder for report and answers.", valueName: "folder"))
  var report: String?

  @Option(help: ArgumentHelp("A text, UTF-8, at most 64 MiB.", valueName: "file"))
  var text: String?

  @Option(help: ArgumentHelp("Tokens of a window of the text (default: 512).", valueName: "n"))
  var window: Int?

  @Flag(help: "One JSON object instead of text.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "Budgets: the most visual tokens that any layer holds.", valueName: "n,…",
      visibility: .hidden))
  var peak: String?

  @Option(
    help: ArgumentHelp(
      "Cuts by hand, the same for all methods: LAYER:COUNT,…; 0: before the first layer; repeat for several.",
      valueName: "stages", visibility: .hidden))
  var schedule: [String] = []

  @Option(help: ArgumentHelp("Of --prune random.", valueName: "n", visibility: .hidden))
  var seed: UInt64 = 0

  @Option(
    help: ArgumentHelp(
      "How an image is made square: crop or pad (default: as in the checkpoint).",
      valueName: "kind", visibility: .hidden))
  var fit: Fit?

  @OptionGroup var room: RoomOptions

  func validate() throws {
    guard (text == nil) != (questions == nil) else {
      throw ValidationError("give either --questions or --text")
    }
    if text != nil {
      try validateText()
    } else {
      try validateQuestions()
    }
  }

  func run() throws {
    do {
      if let text { try evaluateText(text) } else { try evaluateQuestions() }
    } catch let error as ValidationError {
      throw error
    } catch let error as ExitCode {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private func validateText() throws {
    guard (2...1 << 20).contains(window ?? 512) else {
      throw ValidationError("--window takes a whole number from 2 to 1048576")
    }
    guard room.context == nil else {
      throw ValidationError("--text takes --window, not --context")
    }
    guard images == nil, limit == nil, visualTokens == nil, schedule.isEmpty, peak == nil,
      !controls, fit == nil, report == nil
    else { throw ValidationError("--text takes --window and the session's options alone") }
  }

  private func validateQuestions() throws {
    guard images != nil else {
      throw ValidationError("--questions needs --images, the folder of their images")
    }
    guard window == nil else { throw ValidationError("--window is for --text") }
    guard limit.map({ $0 >= 1 }) ?? true else {
      throw ValidationError("--limit takes a whole number from 1")
    }
    _ = try counts(visualTokens, "--visual-tokens")
    _ = try counts(peak, "--peak")
    _ = try variants()
  }

  func variants(of model: ModelConfig? = nil) throws -> [Variant] {
    do {
      return try Variant.list(prune, seed: seed, of: model)
    } catch {
      throw ValidationError("\(error)")
    }
  }

  /// Budgets with commas between; `none` stands for the unpruned model.
  func counts(_ text: String?, _ option: String) throws -> [Int] {
    guard let text else { return [] }
    return try text.split(separator: ",", omittingEmptySubsequences: false).compactMap { part in
      if part == "none" && option == "--visual-tokens" { return nil }
      guard let count = Int(part), (1...1 << 30).contains(count) else {
        throw ValidationError("\(option) takes whole numbers from 1, separated by commas")
      }
      return count
    }
  }
}
