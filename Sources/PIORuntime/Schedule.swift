import PIOBase

/// Where visual tokens are dropped, and how many are left.
///
/// A stage `(afterLayer: l, keep: K)` cuts the visual rows to K behind the l-th layer, layers counted from 1; `l = 0`:
/// before the first. The layers up to l keep their rows in the KV cache.
/// Source: PIO-FVLM, arXiv:2602.04657; its published schedules for 32 layers and 576 tokens are what the proportions
/// of `Schedule(averaging:)` come from.
public struct Schedule: Equatable, Sendable {
  public struct Stage: Equatable, Sendable {
    public let afterLayer: Int
    public let keep: Int

    public init(afterLayer: Int, keep: Int) {
      self.afterLayer = afterLayer
      self.keep = keep
    }
  }

  public let stages: [Stage]

  public static let none = Schedule(unchecked: [])

  private init(unchecked stages: [Stage]) { self.stages = stages }

  /// A schedule by hand: layers ascending and inside the model, counts falling and at least 1.
  public init(_ stages: [Stage], layerCount: Int) throws(ScheduleError) {
    var previous: Stage?
    for stage in stages {
      guard stage.afterLayer >= 0, stage.afterLayer < layerCount else {
        throw .layerOutOfRange(layer: stage.afterLayer, layerCount: layerCount)
      }
      guard stage.keep >= 1 else { throw .keepsNothing(afterLayer: stage.afterLayer) }
      if let previous {
        guard stage.afterLayer > previous.afterLayer else {
          throw .layersNotAscending(previous.afterLayer, stage.afterLayer)
        }
        guard stage.keep <= previous.keep else {
          throw .countsNotFalling(previous.keep, stage.keep)
        }
      }
      previous = stage
    }
    self.stages = stages
  }

  /// `1:92,10:54,15:22`.
  public init(parsing text: String, layerCount: Int) throws(ScheduleError) {
    var stages: [Stage] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let numbers = part.split(separator: ":", omittingEmptySubsequences: false).map { Int($0) }
      guard numbers.count == 2, let layer = numbers[0], let keep = numbers[1] else {
        throw .notAStage(String(part))
      }
      stages.append(Stage(afterLayer: layer, keep: keep))
    }
    try self.init(stages, layerCount: layerCount)
  }

  /// The stages behind the first one.
  var withoutFirst: Schedule { Schedule(unchecked: Array(stages.dropFirst())) }

  /// Visual rows that each layer sees, of `tokenCount` that enter.
  public func tokens(_ tokenCount: Int, layerCount: Int) -> [Int] {
    var left = tokenCount
    var next = stages[...]
    return (0..<layerCount).map { layer in
      while let stage = next.first, stage.afterLayer <= layer {
        left = min(left, stage.keep)
        next = next.dropFirst()
      }
      return left
    }
  }

  /// The mean over the layers of the visual rows they see.
  public func average(_ tokenCount: Int, layerCount: Int) -> Double {
    Double(tokens(tokenCount, layerCount: layerCount).reduce(0, +)) / Double(layerCount)
  }

  /// Stages whose layers see `budget` of `tokenCount` visual rows on average: never more, and less by under one row; a
  /// larger budget gives no layer fewer rows.
  public init(
    averaging budget: Int, of tokenCount: Int, layerCount: Int, rule: ScheduleRule = .measured
  ) throws(ScheduleError) {
    guard budget < tokenCount else {
      self = .none
      return
    }
    guard budget >= 1 else { throw .budgetTooSmall(budget: budget, smallest: 1) }
    if rule == .measured && layerCount < Schedule.deepLayerCount {
      self.init(shallow: budget, of: tokenCount, layerCount: layerCount)
    } else {
      self.init(published: budget, of: tokenCount, layerCount: layerCount)
    }
  }

  /// Of a budget: one before the first layer, and three.
  static let mostStages = 4

  /// From here on the published proportions hold; they were found on 32 layers.
  static let deepLayerCount = 16

  /// Three levels, 2.5 : 0.75 : 0.375 of the budget: a first quarter of the layers, a second one, and the rest.
  ///
  /// What a layer early in a shallow model drops it has hardly read, and there are too few behind it to make up for it.
  /// Where the first layers see every row, the others share what is left.
  private init(shallow budget: Int, of tokenCount: Int, layerCount: Int) {
    var ends: [Int] = []
    for end in [max(1, (layerCount + 2) / 4), layerCount / 2, layerCount]
    where end > ends.last ?? 0 { ends.append(end) }
    let counts = Schedule.counts(
      [2.5, 0.75, 0.375], total: budget * layerCount, spans: zip(ends, [0] + ends).map { $0 - $1 },
      atMost: tokenCount)
    var stages: [Stage] = []
    for (layer, count) in zip([0] + ends, counts) where count < (stages.last?.keep ?? tokenCount) {
      stages.append(Stage(afterLayer: layer, keep: count))
    }
    self.init(unchecked: stages)
  }

  /// Behind 1/32, 10/32 and 15/32 of the depth (rounded half up, at least 1, strictly ascending) the counts stand in
  /// the published proportion 1.70 : 1 : 0.42. The layers before the first of these see every token, but take at most
  /// half of the whole budget: a stage before the first layer cuts to what that allows, as in shallow models. Moving
  /// the first stage there instead would halve what the later layers see at the budget where it moves back; so, a
  /// larger budget gives no layer fewer rows. Counts are clipped at the rows there are, at least 1, and what the
  /// clipping leaves goes to the later stages.
  private init(published budget: Int, of tokenCount: Int, layerCount: Int) {
    let layers = Schedule.stageLayers(layerCount)
    let total = budget * layerCount
    let first = layers.first ?? layerCount
    let half = layers.isEmpty ? total / first : total / (2 * first)
    // One row for each later layer comes before anything else.
    let entering = min(tokenCount, half, (total - (layerCount - first)) / first)
    var stages = entering < tokenCount ? [Stage(afterLayer: 0, keep: entering)] : []
    let spans = zip(layers, layers.dropFirst() + [layerCount]).map { $1 - $0 }
    let counts = Schedule.counts(
      [1.70, 1, 0.42], total: total - first * entering, spans: spans, atMost: entering)
    for (layer, count) in zip(layers, counts) {
      stages.append(Stage(afterLayer: layer, keep: count))
    }
    self.init(unchecked: stages)
  }

  /// One cut behind `layer` layers, so that the layers see `budget` of `tokenCount` visual rows on average, or less by
  /// under one row.
  public init(cutAfter layer: Int, averaging budget: Int, of tokenCount: Int, layerCount: Int)
    throws(ScheduleError)
  {
    guard budget < tokenCount else {
      self = .none
      return
    }
    let behind = max(1, layerCount - layer)
    let keep = (budget * layerCount - layer * tokenCount) / behind
    guard layer < layerCount, budget * layerCount >= layer * tokenCount + behind else {
      let smallest = (layer * tokenCount + behind + layerCount - 1) / layerCount
      throw .budgetTooSmall(budget: budget, smallest: min(tokenCount, max(1, smallest)))
    }
    self.init(unchecked: [Stage(afterLayer: layer, keep: keep)])
  }

  private static func stageLayers(_ layerCount: Int) -> [Int] {
    var layers: [Int] = []
    for depth in [1, 10, 15] {
      let layer = max((2 * depth * layerCount + 32) / 64, (layers.last ?? 0) + 1)
      if layer < layerCount { layers.append(layer) }
    }
    return layers
  }

  /// The largest counts in proportion whose `count · span` sum to at most `total`.
  private static func counts(
    _ proportions: [Double], total: Int, spans: [Int], atMost limit: Int
  ) -> [Int] {
    func counts(_ scale: Double) -> [Int] {
      zip(proportions, spans).map { proportion, _ in min(limit, max(1, Int(proportion * scale))) }
    }
    // Bisection on a step function: 64 halvings separate any two doubles in reach.
    var (low, high) = (0.0, Double(limit) / proportions.min()! + 1)
    for _ in 0..<64 {
      let middle = (low + high) / 2
      let cost = zip(counts(middle), spans).reduce(0) { $0 + $1.0 * $1.1 }
      if cost <= total { low = middle } else { high = middle }
    }
    return counts(low)
  }
}

/// How a budget is spread over the layers.
public enum ScheduleRule: String, Sendable, CaseIterable {
  /// In the proportions of PIO-FVLM's published schedules.
  case published
  /// What kept most answers of the demo's eight layers, up to 15; the published proportions in deeper models.
  case measured
}

public enum ScheduleError: Error, Equatable, CustomStringConvertible {
  case notAStage(String)
  case layerOutOfRange(layer: Int, layerCount: Int)
  case keepsNothing(afterLayer: Int)
  case layersNotAscending(Int, Int)
  case countsNotFalling(Int, Int)
  case budgetTooSmall(budget: Int, smallest: Int)
  /// The method works in the image encoder: its stage stands before the first layer.
  case encoderStageMissing(method: String)
  case encoderStageOnly(method: String)

  public var description: String {
    switch self {
    case .notAStage(let text):
      "'\(text.shortened)' is not a stage: write LAYER:COUNT, as in 1:92,10:54,15:22"
    case .layerOutOfRange(let layer, let count):
      "there is no stage after layer \(layer): this model takes 0 to \(count - 1)"
    case .keepsNothing(let layer):
      "the stage after layer \(layer) must keep at least 1 visual token"
    case .layersNotAscending(let a, let b):
      "stages must be in the order of their layers: \(b) comes after \(a)"
    case .countsNotFalling(let a, let b):
      "a stage cannot keep more tokens than the one before it: \(b) comes after \(a)"
    case .encoderStageMissing(let method):
      "\(method) drops tokens in the image encoder: its schedule must begin with 0:COUNT"
    case .encoderStageOnly(let method):
      "\(method) drops tokens only in the image encoder: its schedule must be 0:COUNT"
    case .budgetTooSmall(let budget, let smallest):
      "a budget of \(budget) visual tokens is too small; the smallest is \(smallest)"
    }
  }
}
