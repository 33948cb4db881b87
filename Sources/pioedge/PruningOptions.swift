import ArgumentParser
import PIOFormat
import PIORuntime

extension PruneMethod: ExpressibleByArgument {}
extension PrunedPositions: ExpressibleByArgument {}
extension ProxyRows: ExpressibleByArgument {}
extension ProxyBlock: ExpressibleByArgument {}
extension PatchScore: ExpressibleByArgument {}
extension EntrySelection: ExpressibleByArgument {}

/// A named set of pruning options.
enum PruningPreset: String, ExpressibleByArgument, CaseIterable {
  case published
}

/// How visual tokens are chosen.
struct PruningDetails: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Which visual tokens are kept (none: all of them; default: pio).", valueName: "method",
      visibility: .hidden))
  var prune: PruneMethod?

  @Option(
    help: ArgumentHelp(
      "Where visual tokens are dropped, instead of --visual-tokens: LAYER:COUNT, as in 1:92,10:54,15:22; 0: before the first layer.",
      valueName: "stages", visibility: .hidden))
  var schedule: String?

  @Option(
    help: ArgumentHelp(
      "Positions of the tokens behind a cut: original, or compact (numbered anew) (default: original).",
      valueName: "kind", visibility: .hidden))
  var positions: PrunedPositions?

  @Option(
    help: ArgumentHelp(
      "pio: the rows whose predictions make the loss: last4 (the four before the prompt's last), last2 (the two), final (the last) (default: last4).",
      valueName: "rows", visibility: .hidden))
  var proxyRows: ProxyRows?

  @Option(
    help: ArgumentHelp(
      "pio: the block that the loss goes through: next (behind the cut) or current (default: next).",
      valueName: "block", visibility: .hidden))
  var proxyBlock: ProxyBlock?

  @Option(
    help: ArgumentHelp(
      "pio: cosine from which two tokens count as the same; above 1: never (default: 0.9).",
      valueName: "cosine", visibility: .hidden))
  var nmsThreshold: Float?

  @Option(
    help: ArgumentHelp(
      "pio: part of the kept tokens, 0 to 1, taken as the most salient of each cell of a grid over the image (default: 0.5).",
      valueName: "part", visibility: .hidden))
  var coverage: Float?

  @Option(
    help: ArgumentHelp(
      "pio: what a stage before the first layer keeps: the most salient token of each cell of a grid (cells), evenly spaced ones (even), or as in the other stages (saliency) (default: \(Pruning().entry.rawValue)).",
      valueName: "kind", visibility: .hidden))
  var entry: EntrySelection?

  @Option(
    help: ArgumentHelp(
      "pio as in its authors' code (compact positions, threshold 0.8, no coverage, their schedule); other options override it.",
      valueName: "name", visibility: .hidden))
  var pruningPreset: PruningPreset?

  @Option(
    help: ArgumentHelp(
      "visionzip, windowzip: rank patches by the attention of the class token (cls) or of all rows (received) (default: cls where the vision encoder has a class token).",
      valueName: "kind", visibility: .hidden))
  var patchScore: PatchScore?

  mutating func validate() throws {
    guard coverage.map({ $0 >= 0 && $0 <= 1 }) ?? true else {
      throw ValidationError("--coverage takes a part from 0 to 1")
    }
    guard nmsThreshold.map({ $0 >= -1 && $0 <= 2 }) ?? true else {
      throw ValidationError(
        "--nms-threshold takes a cosine from -1 to 1, or up to 2 for no threshold")
    }
  }

  /// What was given.
  func set(_ pruning: inout Pruning) {
    pruning.method = prune ?? pruning.method
    pruning.positions = positions ?? pruning.positions
    pruning.proxyRows = proxyRows ?? pruning.proxyRows
    pruning.proxyBlock = proxyBlock ?? pruning.proxyBlock
    pruning.nmsThreshold = nmsThreshold ?? pruning.nmsThreshold
    pruning.coverage = coverage ?? pruning.coverage
    pruning.entry = entry ?? pruning.entry
    pruning.patchScore = patchScore ?? pruning.patchScore
  }
}

/// Which visual tokens the decoder's layers see.
@dynamicMemberLookup
struct PruningOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Visual tokens that a layer sees on average, over all images of a prompt: a number, or a part as in 11.1% (default: all).",
      valueName: "count"))
  var visualTokens: String?

  @OptionGroup(title: "Pruning") var details: PruningDetails

  mutating func validate() throws {
    guard visualTokens == nil || details.schedule == nil else {
      throw ValidationError(
        "--visual-tokens and --schedule both say how much is dropped: give one of them")
    }
    _ = try budgets()
  }

  subscript<Value>(dynamicMember path: WritableKeyPath<PruningDetails, Value>) -> Value {
    get { details[keyPath: path] }
    set { details[keyPath: path] = newValue }
  }

  /// What the command line says, for a model of this shape.
  func pruning(for config: ModelConfig, seed: UInt64) throws -> Pruning {
    let prunings = try prunings(for: config, seed: seed)
    guard prunings.count == 1 else {
      throw ValidationError("--visual-tokens takes one count here")
    }
    return prunings[0]
  }

  /// The same for each count of --visual-tokens.
  func prunings(for config: ModelConfig, seed: UInt64) throws -> [Pruning] {
    var pruning = details.pruningPreset == .published ? Pruning.published : Pruning()
    details.set(&pruning)
    pruning.seed = seed
    var budgets = try budgets()
    if let schedule = details.schedule {
      let stages = try Schedule(parsing: schedule, layerCount: config.text.layerCount).stages
      budgets = [.stages(stages)]
    }
    return budgets.map { budget in
      pruning.budget = budget
      return pruning
    }
  }

  private func budgets() throws -> [VisualBudget] {
    guard let visualTokens else { return [.all] }
    return try visualTokens.split(separator: ",", omittingEmptySubsequences: false).map(budget)
  }

  private func budget(_ text: Substring) throws -> VisualBudget {
    if text.hasSuffix("%") {
      guard let percent = Double(text.dropLast()), percent > 0, percent <= 100 else {
        throw ValidationError("--visual-tokens takes a part from above 0% up to 100%")
      }
      return .fraction(percent / 100)
    }
    guard let count = Int(text), count >= 0, count <= 1 << 30 else {
      throw ValidationError(
        "--visual-tokens takes a whole number from 1 to 1073741824, or a part as in 11.1%")
    }
    // Zero is refused with the smallest count that makes sense.
    guard count > 0 else {
      throw ValidationError("\(ScheduleError.budgetTooSmall(budget: 0, smallest: 1))")
    }
    return .average(count)
  }
}
