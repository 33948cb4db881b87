import ArgumentParser
import Glibc
import PIOFormat
import PIORuntime

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Answer a question about an image, or chat.",
    usage: "pioedge run <model> [<prompt>] [<options>]",
    discussion: """
      Examples:
        pioedge run llava.piom --image door.jpg "Is the door open?"
        pioedge run llava.piom --image door.jpg          (on a terminal: a chat)
        echo "What is this?" | pioedge run llava.piom --image door.jpg
        pioedge run llava.piom --image door.jpg "Open?" --memory-cap 1GiB
        pioedge run llava.piom --jsonl < questions.jsonl

      In a chat: /image FILE shows another image, /reset forgets the conversation, /quit ends.
      A line of questions.jsonl: {"image": "door.jpg", "prompt": "Open?"}

      \(everyOption("run"))
      """)

  @Argument(help: ArgumentHelp("The .piom file.", valueName: "model"))
  var model: String

  @Argument(help: "The question; without one: from stdin, or a chat on a terminal.")
  var prompt: String?

  @Option(help: ArgumentHelp("An image (JPEG or PNG); repeat for several.", valueName: "file"))
  var image: [String] = []

  @Option(
    help: ArgumentHelp("What the model is told before the conversation.", valueName: "text"))
  var system: String?

  @Flag(help: "One JSON object instead of text.")
  var json = false

  @Flag(help: "Read {\"image\", \"prompt\"} lines from stdin; print one JSON object a line.")
  var jsonl = false

  @Flag(help: "Print timings and memory to stderr.")
  var stats = false

  @Option(
    help: ArgumentHelp(
      "How an image is made square: crop or pad (default: as in the checkpoint).",
      valueName: "kind", visibility: .hidden))
  var fit: Fit?

  @Flag(
    help: ArgumentHelp(
      "No chat template: the text exactly as given, <image> where an image goes.",
      visibility: .hidden))
  var raw = false

  @OptionGroup var session: SessionOptions
  @OptionGroup var sampling: SamplingOptions
  @OptionGroup(title: "Diagnostics") var diagnostics: DiagnosticOptions

  mutating func validate() throws {
    if jsonl {
      guard prompt == nil, image.isEmpty else {
        throw ValidationError("--jsonl takes prompts and images from stdin, not as arguments")
      }
      guard !diagnostics.writesFiles else {
        throw ValidationError(
          "--dump-logits, --dump-saliency and --explain are about one answer, not for --jsonl")
      }
    }
    if raw && system != nil { throw ValidationError("--raw and --system cannot be used together") }
  }

  func run() throws {
    do {
      try answer()
    } catch let error as ValidationError {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private func answer() throws {
    let start = ProcessStatus.monotonicMilliseconds
    try session.room.checkCap()
    let file = try session.room.open(model)
    if diagnostics.verify { try file.verify() }
    guard image.isEmpty || file.config.vision != nil else { throw RuntimeError.modelTakesNoImages }
    let isChat = prompt == nil && !jsonl && isatty(STDIN_FILENO) != 0
    let limits = try session.limits(
      for: file.config, images: image.count, isChat: isChat, isConversation: isChat || jsonl,
      seed: sampling.seed)
    try session.room.checkCompute(file)
    let runtime = try Runtime(
      file, limits: limits, fit: fit?.preprocessing, isa: kernelsFromEnvironment(), host: host)
    let slot = try runtime.begin(sampling.sampling)
    if diagnostics.verbose { printError(PlanReport(runtime.plan).table) }
    let loaded = ProcessStatus.monotonicMilliseconds - start
    let turns = Turns(
      slot: slot, raw: raw, system: system, maxTokens: session.maxTokens, stats: stats,
      loadMilliseconds: loaded, diagnostics: diagnostics)
    if jsonl {
      try turns.answerLines(runtime)
    } else if let text = try prompt ?? piped(maxByteCount: runtime.maxTextBytes) {
      guard raw || !text.isEmpty else { throw RuntimeError.emptyPrompt }
      try turns.answerOnce(runtime, text: text, images: image, json: json)
    } else {
      try turns.chat(runtime, images: image)
    }
  }

  /// Standard input whole, where it is not a terminal.
  private func piped(maxByteCount: Int) throws -> String? {
    if isatty(STDIN_FILENO) != 0 {
      guard !json else {
        throw ValidationError("--json needs a prompt, as an argument or on stdin")
      }
      return nil
    }
    var input = Input(maxByteCount: maxByteCount)
    var text = try input.all()
    if text.hasSuffix("\n") && !raw { text.removeLast() }
    return text
  }
}
