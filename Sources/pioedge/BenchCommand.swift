import ArgumentParser
import Glibc
import PIOBench
import PIOFormat
import PIORuntime
import PIOThreads
import PIOVision

struct BenchCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "bench",
    abstract: "Measure a model's speed, and how near it comes to what this machine can do.",
    usage: "pioedge bench <model> [<options>]\npioedge bench --limits",
    discussion: """
      Examples:
        pioedge bench llava.piom
        pioedge bench llava.piom -p 512 -n 128 --threads 1 --json
        pioedge bench llava.piom --image           (an image too)
        pioedge bench llava.piom --image --visual-tokens 192,64  (pruned)
        pioedge bench llava.piom --depth 1024      (decoding behind 1024 rows)
        pioedge bench --limits                     (what this machine can do)

      Tokens and the image are made up; each figure is the median of --repetitions runs, after one that does not \
      count. Shares are of what plain loops reach here with the same number of threads. With --visual-tokens one \
      prompt (an image and \(Benchmark.textRowsWithPrunedImage) text tokens) is answered with -n tokens, unpruned and with each \
      count in turn; prefill and decoding alone are then measured only where -p asks for it.

      \(everyOption("bench"))
      """)

  @Argument(help: ArgumentHelp("The .piom file.", valueName: "model"))
  var model: String?

  @Option(
    name: [.customShort("p"), .customLong("prompt")],
    help: ArgumentHelp(
      "Prompt lengths to measure, in tokens (default: 128,512,640, as far as the model goes).",
      valueName: "n,…"))
  var prompts: String?

  @Option(
    name: [.customShort("n"), .customLong("generate")],
    help: ArgumentHelp("Tokens to decode; 0: none.", valueName: "n"))
  var generate = 64

  @Option(
    help: ArgumentHelp("Rows in the cache before decoding is measured.", valueName: "n"))
  var depth = 0

  @Option(name: .shortAndLong, help: ArgumentHelp("Runs of each measurement.", valueName: "n"))
  var repetitions = 5

  @Flag(help: "Measure with an image too: encoding, and the time to the first token.")
  var image = false

  @Flag(help: "Measure the machine alone: integer and f32 arithmetic, reading from memory.")
  var limits = false

  @Flag(help: "One JSON object instead of a table.")
  var json = false

  @Flag(help: ArgumentHelp("Print the memory plan to stderr.", visibility: .hidden))
  var verbose = false

  @OptionGroup var session: SessionOptions

  private static let defaultPrompts = [128, 512, 640]

  mutating func validate() throws {
    guard limits != (model != nil) else {
      throw ValidationError(
        limits
          ? "--limits measures the machine and takes no model"
          : "a model is needed, or --limits for the machine alone")
    }
    try require(generate, 0...(1 << 20), "-n")
    try require(depth, 0...(1 << 20), "--depth")
    try require(repetitions, 1...1000, "--repetitions")
    guard image || !prunes else {
      throw ValidationError("--visual-tokens and --schedule need --image")
    }
    guard !prunes || depth == 0 else {
      throw ValidationError("--depth cannot be used with --visual-tokens or --schedule")
    }
    _ = try promptLengths()
  }

  /// Whether pruned runs are compared with unpruned ones.
  private var prunes: Bool {
    (session.pruning.visualTokens != nil || session.pruning.schedule != nil)
      && session.pruning.prune != PruneMethod.none
  }

  func run() throws {
    do {
      if let model { try measure(model) } else { try measureMachine() }
    } catch let error as ValidationError {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private func measureMachine() throws {
    let isa = String(cString: try kernelTable(kernelsFromEnvironment()).pointee.isa)
    let threads = session.threads ?? defaultThreadCount()
    bindCallingThread(threadCount: threads)
    let meter = try LimitMeter(isa: isa, threadCount: threads)
    let report = LimitsReport(isa: isa, threads: threads, limits: LimitsReport.Rates(meter))
    try printOutput(json ? jsonText(report) : report.text)
  }

  private func measure(_ path: String) throws {
    let start = ProcessStatus.monotonicMilliseconds
    try session.room.checkCap()
    let file = try session.room.open(path)
    guard !image || file.config.vision != nil else { throw RuntimeError.modelTakesNoImages }
    try session.room.checkCompute(file)
    let lengths = try promptLengths() ?? (prunes ? [] : defaultPrompts(file.config))
    let model = BenchedModel(path, file)
    let limits = try sessionLimits(file.config, lengths)
    let runtime = try Runtime(file, limits: limits, isa: kernelsFromEnvironment(), host: host)
    let slot = try runtime.begin()
    if verbose { printError(PlanReport(runtime.plan).table) }
    var run = try BenchRun(
      model, runtime, slot, repetitions: repetitions,
      loadMilliseconds: ProcessStatus.monotonicMilliseconds - start)
    for length in lengths { try run.measurePrefill(runtime, tokens: length) }
    if prunes {
      try run.comparePrunings(runtime, limits.prunings, answerTokens: max(1, generate))
    } else if image, let vision = model.config.vision {
      try run.measureImage(runtime, vision)
    } else if let longest = lengths.max() {
      try run.measureFirstToken(runtime, image: nil, textRows: longest)
    }
    if generate > 0 && (!prunes || !lengths.isEmpty) {
      try run.measureDecode(runtime, tokens: generate, depth: depth)
    }
    run.finish()
    try printOutput(json ? jsonText(run.report) : run.report.text)
  }

  /// The session's flags, with room for what is measured unless --context says otherwise.
  private func sessionLimits(_ config: ModelConfig, _ lengths: [Int]) throws -> Limits {
    var session = session
    // One row stays for the answer.
    let needed = max(
      (lengths.max() ?? 0) + 1, generate + depth + 1,
      prunes
        ? Benchmark.textRowsWithPrunedImage + max(1, generate)
        : image ? Benchmark.textRowsWithImage + 1 : 2)
    if let context = session.context, context < needed {
      throw ValidationError("--context \(context) is too short: \(needed) text rows are measured")
    }
    session.context = session.context ?? needed
    if !image { session.images = session.images ?? 0 }
    let ways = prunes ? try session.pruning.prunings(for: config, seed: 0) : []
    // The session's own way is to prune nothing: what the others are held against.
    (session.pruning.visualTokens, session.pruning.schedule) = (nil, nil)
    var limits = try session.limits(
      for: config, images: image ? 1 : 0, isChat: false, isConversation: true,
      seed: 0)
    limits.alternatives = ways
    return limits
  }

  private func defaultPrompts(_ config: ModelConfig) -> [Int] {
    let visualRows = image ? config.vision?.maxRowCount ?? 0 : 0
    let fitting = Self.defaultPrompts.filter { $0 + 1 + visualRows <= config.text.maxPositions }
    return fitting.isEmpty ? [max(1, config.text.maxPositions / 2)] : fitting
  }

  /// What `-p` says; nil: nothing.
  private func promptLengths() throws -> [Int]? {
    guard let prompts else { return nil }
    return try prompts.split(separator: ",", omittingEmptySubsequences: false).map { part in
      guard let length = Int(part), (1...1 << 20).contains(length) else {
        throw ValidationError("-p takes whole numbers from 1 to 1048576, separated by commas")
      }
      return length
    }
  }
}

/// `PIOEDGE_ISA`: kernels by name; nil: the best there are.
func kernelsFromEnvironment() -> String? { getenv("PIOEDGE_ISA").map { String(cString: $0) } }
