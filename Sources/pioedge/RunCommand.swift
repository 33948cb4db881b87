import ArgumentParser
import Glibc
import PIOFormat
import PIORuntime

struct RunCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "run",
    abstract: "Answer a question about an image, or chat.",
    discussion: """
      Examples:
        pioedge run llava.piom --image door.jpg "Is the door open?"
        pioedge run llava.piom --image door.jpg              a chat, when started on a terminal
        echo "What is this?" | pioedge run llava.piom --image door.jpg
        pioedge run llava.piom --raw --image door.jpg "USER: <image>\\nWhat is this? ASSISTANT:"
        pioedge run llava.piom --image door.jpg "Open?" --memory-cap 1GiB --verbose
        pioedge run llava.piom --jsonl < questions.jsonl     {"image": "door.jpg", "prompt": "Open?"} a line

      In a chat: /image FILE shows another image, /reset forgets the conversation, /quit ends.
      Environment: PIOEDGE_ISA=NAME forces the kernels (`pioedge inspect --cpu` lists them).
      """)

  @Argument(help: ArgumentHelp("The .piom file.", valueName: "model"))
  var model: String

  @Argument(help: "The question; without one: from stdin, or a chat on a terminal.")
  var prompt: String?

  @Option(help: "An image (JPEG or PNG); repeat for several.")
  var image: [String] = []

  @OptionGroup(title: "Session") var session: SessionOptions
  @OptionGroup(title: "Sampling") var sampling: SamplingOptions

  @Option(help: "What the model is told before the conversation.")
  var system: String?

  @Option(help: "How an image is made square: crop or pad (default: as the checkpoint says).")
  var fit: Fit?

  @Flag(help: "No chat template: the text exactly as given, <image> where an image goes.")
  var raw = false

  @Flag(help: "One JSON object instead of text.")
  var json = false

  @Flag(help: "Read {\"image\", \"prompt\"} lines from stdin; print one JSON object a line.")
  var jsonl = false

  @Flag(help: "Print timings and memory to stderr.")
  var stats = false

  @Flag(help: "Print the memory plan to stderr before running.")
  var verbose = false

  @Flag(help: "Check every tensor's checksum before running.")
  var verify = false

  @Option(
    help: ArgumentHelp(
      "Diagnostic: write the logits that the first token is chosen from (f32, little-endian) to a file.",
      valueName: "file"))
  var dumpLogits: String?

  @Option(
    help: ArgumentHelp(
      "Write what each pruning stage ranked the visual tokens by, and what it kept, to a file (JSON).",
      valueName: "file"))
  var dumpSaliency: String?

  @Option(
    help: ArgumentHelp(
      "Draw what each pruning stage ranked and kept over the images (PNG); the words stand beside it in a file of that name and .json.",
      valueName: "file"))
  var explain: String?

  mutating func validate() throws {
    if jsonl {
      guard prompt == nil, image.isEmpty, dumpLogits == nil, dumpSaliency == nil, explain == nil
      else {
        throw ValidationError("--jsonl takes prompts and images from stdin, not as arguments")
      }
    }
    if raw && system != nil { throw ValidationError("--raw has no place for --system") }
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
    let file = try session.room.open(model)
    if verify { try file.verify() }
    guard image.isEmpty || file.config.vision != nil else { throw RuntimeError.modelTakesNoImages }
    let isChat = prompt == nil && !jsonl && isatty(STDIN_FILENO) != 0
    let limits = try session.limits(
      for: file.config, images: image.count, isChat: isChat, isConversation: isChat || jsonl,
      seed: sampling.seed)
    try session.room.checkCompute(file)
    var runtime = try Runtime(
      file, limits: limits, fit: fit?.preprocessing, isa: kernelsFromEnvironment(), host: .command)
    let slot = try runtime.begin(sampling.sampling)
    if verbose { printError(PlanReport(runtime.plan).table) }
    let loaded = ProcessStatus.monotonicMilliseconds - start
    let turns = Turns(
      slot: slot, raw: raw, system: system, maxTokens: session.maxTokens, stats: stats,
      loadMilliseconds: loaded, dumpLogits: dumpLogits,
      dumpSaliency: dumpSaliency, explain: explain)
    if jsonl {
      try turns.answerLines(&runtime)
    } else if let text = try prompt ?? piped(maxByteCount: runtime.maxTextBytes) {
      try turns.answerOnce(&runtime, text: text, images: image, json: json)
    } else {
      try turns.chat(&runtime, images: image)
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
