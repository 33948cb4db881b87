/// Which visual rows a stage keeps.
public enum PruneMethod: String, Sendable, CaseIterable {
  /// All of them, whatever the budget says.
  case none
  /// Evenly spaced over the image.
  case uniform
  /// Drawn evenly, from a seed.
  case random
  /// Those that a layer-local loss depends on most, and that differ from each other.
  /// Source: PIO-FVLM, arXiv:2602.04657.
  case pio
  /// Those that the last prompt row attends to most. Source: Chen et al. 2024 (FastV), arXiv:2403.06764.
  case fastv
  /// Those that least resemble a few pivots. Source: Wen et al. 2025 (DART), arXiv:2502.11494.
  case dart
  /// What the image encoder's attention picks, the rest merged. Source: Yang et al. 2024 (VisionZip),
  /// arXiv:2412.04467.
  case visionzip
  /// The same with half as many tokens more, which `pio` cuts to a third behind half of the layers.
  case visionzipPIO = "visionzip+pio"
  /// What the image encoder's attention picks, half of it by windows, the rest merged: for images at their own shape.
  /// Source: PIO-FVLM, arXiv:2602.04657, as published for Qwen2.5-VL.
  case windowzip
  /// The same with half as many tokens more, which `pio` cuts to a third behind half of the layers.
  case windowzipPIO = "windowzip+pio"
  /// Those that are farthest from each other. Source: Alvar et al. 2025 (DivPrune), arXiv:2503.02175.
  case divprune

  /// Whether a stage ranks by the saliency of a loss.
  package var usesSaliency: Bool {
    self == .pio || self == .visionzipPIO || self == .windowzipPIO
  }

  /// Whether a stage multiplies with the head: its blocks are then in memory beside a layer.
  var readsHead: Bool { usesSaliency }

  /// Whether a stage computes with a block's weights or keys.
  var readsBlock: Bool { usesSaliency || self == .fastv || self == .dart }

  /// Whether the encoder hands over fewer rows than there are tokens.
  package var zips: Bool { self == .visionzip || zipsByWindows || self == .visionzipPIO }

  /// Whether it chooses half of them by windows.
  package var zipsByWindows: Bool { self == .windowzip || self == .windowzipPIO }

  /// Whether `pio` cuts what the encoder hands over.
  package var cutsTwice: Bool { self == .visionzipPIO || self == .windowzipPIO }

  /// The one layer behind which the method cuts, where it was published; nil: several stages. Those that ask nothing of
  /// the image keep most answers when they cut before the first.
  package var publishedLayer: Int? {
    switch self {
    case .fastv, .dart: 2
    case .divprune, .uniform, .random: 0
    case .none, .pio, .visionzip, .visionzipPIO, .windowzip, .windowzipPIO: nil
    }
  }
}

/// What positions the rows behind a stage have.
public enum PrunedPositions: String, Sendable, CaseIterable {
  /// Numbered anew from 0, as in the published LLaVA code.
  case compact
  /// Those they had.
  case original
}

/// Whose predictions make the loss, counted from the prompt's last row n - 1. Only text rows behind the last image
/// count: fewer if there are fewer; the last row where it is the only one.
public enum ProxyRows: String, Sendable, CaseIterable {
  /// n - 5 ... n - 2, as in the published code.
  case last4
  /// n - 3 and n - 2.
  case last2
  /// n - 1.
  case final

  /// The rows, of `textRows` behind the last image and `count` in all.
  func range(textRows: Int, of count: Int) -> Range<Int> {
    if self == .final || textRows == 1 { return (count - 1)..<count }
    return (count - 1 - min(self == .last4 ? 4 : 2, textRows - 1))..<(count - 1)
  }
}

/// The block that the loss goes through.
public enum ProxyBlock: String, Sendable, CaseIterable {
  /// The one behind the stage, as in the published LLaVA code.
  case next
  /// The one that has just run, once more; before the first block the first one. Rows of earlier turns are those of
  /// its cache.
  case current
}

/// What `pio` chooses by before the first block, where no row has read another one yet and a gradient says little.
public enum EntrySelection: String, Sendable, CaseIterable {
  /// As everywhere else.
  case saliency
  /// The most salient row of each cell of a grid over the image.
  case cells
  /// Evenly spaced, without a saliency.
  case even
}

/// How many visual tokens the layers see.
public enum VisualBudget: Equatable, Sendable {
  case all
  /// So many on average over the layers, of all images of one prompt together.
  case average(Int)
  /// The same as a part of the tokens there are.
  case fraction(Double)
  case stages([Schedule.Stage])
}

/// What a session does with visual tokens.
public struct Pruning: Equatable, Sendable {
  public var budget = VisualBudget.all
  public var method = PruneMethod.pio
  public var positions = PrunedPositions.original
  /// For `random`.
  public var seed: UInt64 = 0
  public var proxyRows = ProxyRows.last4
  public var proxyBlock = ProxyBlock.next
  /// The cosine from which on two rows count as the same, for `pio`; above 1: never.
  public var nmsThreshold: Float = 0.9

  /// For `pio`, from 0 to 1: so large a part of what an image keeps are the most salient rows of the cells of a grid
  /// over it, before the selection by saliency alone fills up.
  public var coverage: Float = 0.5
  /// For `pio`, at a stage before the first block.
  public var entry = EntrySelection.even
  /// How `pio` spreads a budget over the layers.
  public var scheduleRule = ScheduleRule.measured
  /// What `visionzip` ranks patches by.
  public var patchScore: PatchScore?

  public init() {}

  /// As the published LLaVA code of PIO-FVLM prunes.
  public static var published: Pruning {
    var pruning = Pruning()
    pruning.positions = .compact
    pruning.nmsThreshold = 0.8
    pruning.coverage = 0
    pruning.entry = .saliency
    pruning.scheduleRule = .published
    return pruning
  }

  public var prunes: Bool { method != .none && budget != .all }

  /// Most stages of the decoder, whatever a prompt holds.
  var mostStages: Int {
    guard prunes else { return 0 }
    if case .stages(let stages) = budget { return stages.count }
    if method.zips && !method.cutsTwice { return 0 }
    // Those that cut twice hand over all, and leave the rest to `pio`, where the budget is most of the tokens.
    return method.publishedLayer == nil ? Schedule.mostStages : 1
  }

  /// The stages of the decoder for a prompt with `tokenCount` visual tokens.
  public func schedule(tokenCount: Int, layerCount: Int) throws(ScheduleError) -> Schedule {
    try route(tokenCount: tokenCount, layerCount: layerCount).schedule
  }

  /// How many of a prompt's `tokenCount` visual tokens enter the decoder, and what it does with them.
  package func route(tokenCount: Int, layerCount: Int) throws(ScheduleError) -> (
    entryCount: Int, schedule: Schedule
  ) {
    guard method != .none, tokenCount > 0 else { return (tokenCount, .none) }
    switch budget {
    case .all: return (tokenCount, .none)
    case .stages(let stages):
      let schedule = try Schedule(stages, layerCount: layerCount)
      return try method.zips ? zipped(schedule, tokenCount) : (tokenCount, schedule)
    case .average(let count):
      return try route(averaging: count, of: tokenCount, layerCount: layerCount)
    case .fraction(let part):
      // A NaN is none of them.
      let count = part > 0 ? min(1, part) * Double(tokenCount) : 0
      return try route(
        averaging: Int(count.rounded(.down)), of: tokenCount, layerCount: layerCount)
    }
  }

  private func route(
    averaging average: Int, of tokenCount: Int, layerCount: Int
  ) throws(ScheduleError) -> (entryCount: Int, schedule: Schedule) {
    guard average >= 1 else { throw .budgetTooSmall(budget: average, smallest: 1) }
    if average >= tokenCount { return (tokenCount, .none) }
    if method.zips && !method.cutsTwice { return (average, .none) }
    let entryCount = 3 * average / 2
    if method.cutsTwice, average >= 2, layerCount >= 2, entryCount < tokenCount {
      let stage = Schedule.Stage(afterLayer: layerCount / 2, keep: average / 2)
      return (entryCount, try Schedule([stage], layerCount: layerCount))
    }
    if let layer = method.publishedLayer {
      let schedule = try Schedule(
        cutAfter: layer, averaging: average, of: tokenCount, layerCount: layerCount)
      return (tokenCount, schedule)
    }
    let schedule = try Schedule(
      averaging: average, of: tokenCount, layerCount: layerCount, rule: scheduleRule)
    return (tokenCount, schedule)
  }

  /// A schedule by hand whose stage before the first layer is the encoder's.
  private func zipped(_ schedule: Schedule, _ tokenCount: Int) throws(ScheduleError) -> (
    entryCount: Int, schedule: Schedule
  ) {
    guard let first = schedule.stages.first, first.afterLayer == 0 else {
      throw .encoderStageMissing(method: method.rawValue)
    }
    guard method.cutsTwice || schedule.stages.count == 1 else {
      throw .encoderStageOnly(method: method.rawValue)
    }
    return (min(first.keep, tokenCount), schedule.withoutFirst)
  }
}
