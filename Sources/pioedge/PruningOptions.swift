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

/// Which visual tokens the decoder's layers see.
struct PruningOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Visual tokens a layer sees on average, of all images of a prompt; the others are dropped on the way. A number, or a part of them: 11.1% (default: all).",
      valueName: "count"))
  var visualTokens: String?

  @Option(
    help:
      "Where to drop visual tokens by hand: LAYER:COUNT, as in 1:92,10:54,15:22; 0: before the first layer."
  )
  var schedule: String?

  @Option(
    help:
      "Which visual tokens are kept: \(PruneMethod.allCases.map(\.rawValue).joined(separator: ", ")) (none: all of them; default: pio)."
  )
  var prune: PruneMethod?

  @Option(
    help: "Positions behind a cut: original, or compact (numbered anew) (default: original).")
  var positions: PrunedPositions?

  @Option(
    help:
      "pio: whose predictions make the loss, counted from the prompt's last row: last4 (the four before it), last2, final (default: last4)."
  )
  var proxyRows: ProxyRows?

  @Option(
    help:
      "pio: the block that the loss goes through: next (behind the cut) or current (default: next)."
  )
  var proxyBlock: ProxyBlock?

  @Option(
    help: "pio: cosine from which on two tokens count as the same; above 1: never (default: 0.9).")
  var nmsThreshold: Float?

  @Option(
    help:
      "pio: part of the kept tokens, 0 to 1, that are the most salient ones of the cells of a grid over the image (default: 0.5)."
  )
  var coverage: Float?

  @Option(
    help:
      "pio: what a stage before the first layer keeps: the most salient token of each cell of a grid (cells), evenly spaced ones (even), or as the other stages (saliency) (default: \(Pruning().entry.rawValue))."
  )
  var entry: EntrySelection?

  @Option(
    help:
      "published: pio as its authors' code has it (compact positions, threshold 0.8, no coverage, their schedule); other options go before it."
  )
  var pruningPreset: PruningPreset?

  @Option(
    help:
      "visionzip: patches are ranked by the attention of the class token (cls) or of all rows (received) (default: cls)."
  )
  var patchScore: PatchScore?

  mutating func validate() throws {
    guard visualTokens == nil || schedule == nil else {
      throw ValidationError("--visual-tokens and --schedule say the same thing: give one of them")
    }
    _ = try budgets()
    guard coverage.map({ $0 >= 0 && $0 <= 1 }) ?? true else {
      throw ValidationError("--coverage takes a part from 0 to 1")
    }
    guard nmsThreshold.map({ $0 >= -1 && $0 <= 2 }) ?? true else {
      throw ValidationError("--nms-threshold takes a cosine from -1, or up to 2 for none")
    }
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
    var pruning = pruningPreset == .published ? Pruning.published : Pruning()
    pruning.method = prune ?? pruning.method
    pruning.positions = positions ?? pruning.positions
    pruning.proxyRows = proxyRows ?? pruning.proxyRows
    pruning.proxyBlock = proxyBlock ?? pruning.proxyBlock
    pruning.nmsThreshold = nmsThreshold ?? pruning.nmsThreshold
    pruning.coverage = coverage ?? pruning.coverage
    pruning.entry = entry ?? pruning.entry
    pruning.patchScore = patchScore ?? pruning.patchScore
    pruning.seed = seed
    var budgets = try budgets()
    if let schedule {
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
