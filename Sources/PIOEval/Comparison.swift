import PIOFormat
import PIORuntime

/// What is asked: ways to prune, at budgets and schedules.
public struct Comparison: Sendable {
  /// What all methods of one table have in common.
  public enum Budget: Equatable, Sendable {
    /// Visual tokens that a layer sees on average.
    case average(Int)
    /// The most visual tokens that any layer holds: one cut before the first.
    case peak(Int)
    /// The same stages for all.
    case stages([Schedule.Stage])

    public var title: String {
      switch self {
      case .average(let count): "an average of \(count)"
      case .peak(let count): "a peak of \(count)"
      case .stages(let stages) where stages.count == 1 && stages[0].afterLayer == 0:
        "one cut before the first layer to \(stages[0].keep)"
      case .stages(let stages) where stages.count == 1:
        "one cut after layer \(stages[0].afterLayer) to \(stages[0].keep)"
      case .stages(let stages): "the schedule \(scheduleText(stages))"
      }
    }
  }

  /// A way to prune at a budget.
  public struct Cell: Sendable {
    public let variant: Variant
    /// Which of the settings answers for it; nil: it cannot reach the budget.
    public let setting: Int?
    /// Why it cannot.
    public let problem: String?
  }

  public struct Section: Sendable {
    public let budget: Budget
    public let cells: [Cell]
  }

  /// What of the model a comparison depends on.
  public struct Shape: Sendable {
    /// Visual tokens of an image, the largest one where it is cut into tiles.
    public var tokens: Int
    /// Of the decoder.
    public var layers: Int
    /// Images have unequally many tokens.
    public var countsVary: Bool

    public init(tokens: Int, layers: Int, countsVary: Bool = false) {
      self.tokens = tokens
      self.layers = layers
      self.countsVary = countsVary
    }
  }

  /// What a question is answered with.
  public struct Setting: Equatable, Sendable {
    public enum Image: String, Sendable {
      case own, grey, wrong
    }

    public let image: Image
    public let pruning: Pruning
    /// Visual rows that each layer sees.
    public let rows: [Int]
    public let stages: [Schedule.Stage]
    /// Equal texts: equal answers.
    let identity: String
  }

  /// The first is the unpruned model.
  public let settings: [Setting]
  public let sections: [Section]
  /// Settings of the control rows: a grey image, and another image of the set.
  public let controls: [(name: String, setting: Int)]

  /// - Parameters:
  ///   - controls: other images to ask with, unpruned.
  public init(
    _ variants: [Variant], budgets: [Budget], shape: Shape,
    controls: [Setting.Image] = []
  ) {
    var settings = SettingList()
    _ = settings.add(Setting(unpruned: .own, shape))
    self.controls = controls.map {
      ("\($0.rawValue) image", settings.add(Setting(unpruned: $0, shape)))
    }
    sections = budgets.map { budget in
      Section(budget: budget, cells: variants.map { settings.cell($0, budget, shape) })
    }
    self.settings = settings.all
  }

  /// Each setting once, whatever it is called.
  private struct SettingList {
    var all: [Setting] = []

    /// Its place.
    mutating func add(_ setting: Setting) -> Int {
      if let index = all.firstIndex(of: setting) { return index }
      all.append(setting)
      return all.count - 1
    }

    mutating func cell(_ variant: Variant, _ budget: Budget, _ shape: Shape) -> Cell {
      do {
        let setting = try Setting(variant.pruning, budget, shape)
        return Cell(variant: variant, setting: add(setting), problem: nil)
      } catch {
        return Cell(variant: variant, setting: nil, problem: "\(error)")
      }
    }
  }

  /// Whether any way to prune can be measured, or nothing was to be.
  public var isEmpty: Bool {
    !sections.isEmpty && sections.allSatisfy { $0.cells.allSatisfy { $0.setting == nil } }
  }
}

extension Comparison.Setting {
  init(unpruned image: Image, _ shape: Comparison.Shape) {
    var pruning = Pruning()
    pruning.method = .none
    self.init(
      image: image, pruning: pruning,
      rows: [Int](repeating: shape.tokens, count: shape.layers), stages: [],
      identity: "image=\(image.rawValue)")
  }

  /// Throws where the way to prune cannot reach the budget.
  init(_ pruning: Pruning, _ budget: Comparison.Budget, _ shape: Comparison.Shape)
    throws(RuntimeError)
  {
    var pruning = pruning
    switch budget {
    case .average(let count): pruning.budget = .average(count)
    case .stages(let stages): pruning.budget = .stages(stages)
    case .peak(let count):
      // What a method needs of the layers in front of its cut, every layer there holds.
      if let layer = pruning.method.publishedLayer, layer > 0, count < shape.tokens {
        throw .schedule(.budgetTooSmall(budget: count, smallest: shape.tokens))
      }
      pruning.budget = .stages(pruning.method.stages(peak: count, layerCount: shape.layers))
    }
    let route: (entryCount: Int, schedule: Schedule)
    do {
      route = try pruning.route(tokenCount: shape.tokens, layerCount: shape.layers)
    } catch {
      throw .schedule(error)
    }
    let rows = route.schedule.tokens(route.entryCount, layerCount: shape.layers)
    let entry = Schedule.Stage(afterLayer: 0, keep: route.entryCount)
    let stages = Self.dropping([entry] + route.schedule.stages, of: shape.tokens)
    self.init(
      image: .own, pruning: pruning, rows: rows, stages: stages,
      // Stages of smaller images differ where those of the largest are equal.
      identity: identityText(pruning, stages) + (shape.countsVary ? " \(pruning.budget)" : ""))
  }

  /// Those of the stages that drop something.
  private static func dropping(_ stages: [Schedule.Stage], of count: Int) -> [Schedule.Stage] {
    var left = count
    return stages.filter { stage in
      guard stage.keep < left else { return false }
      left = stage.keep
      return true
    }
  }

  public static func == (a: Self, b: Self) -> Bool { a.identity == b.identity }

  public var average: Double { Double(rows.reduce(0, +)) / Double(max(1, rows.count)) }

  public var peak: Int { rows.max() ?? 0 }
}

/// `1:92,10:54`.
public func scheduleText(_ stages: [Schedule.Stage]) -> String {
  stages.map { "\($0.afterLayer):\($0.keep)" }.joined(separator: ",")
}

/// What decides which rows are kept, and nothing that the method does not read.
private func identityText(_ pruning: Pruning, _ stages: [Schedule.Stage]) -> String {
  guard !stages.isEmpty else { return "image=own" }
  let method = pruning.method
  var parts = [
    "image=own", "method=\(method.rawValue)", "stages=\(scheduleText(stages))",
    "positions=\(pruning.positions.rawValue)",
  ]
  if method == .random { parts.append("seed=\(pruning.seed)") }
  if method.usesSaliency {
    parts.append("rows=\(pruning.proxyRows.rawValue)")
    parts.append("block=\(pruning.proxyBlock.rawValue)")
    parts.append("nms=\(pruning.nmsThreshold)")
    parts.append("coverage=\(pruning.coverage)")
    if stages[0].afterLayer == 0 && !method.zips { parts.append("entry=\(pruning.entry.rawValue)") }
  }
  if method.zips { parts.append("score=\(pruning.patchScore?.rawValue ?? "own")") }
  return parts.joined(separator: " ")
}

extension PruneMethod {
  /// As many tokens as a peak allows, from the start, and cut on by those that cut twice.
  func stages(peak: Int, layerCount: Int) -> [Schedule.Stage] {
    let first = Schedule.Stage(afterLayer: 0, keep: peak)
    guard cutsTwice, layerCount >= 2 else { return [first] }
    return [first, Schedule.Stage(afterLayer: layerCount / 2, keep: max(1, peak / 3))]
  }
}

extension Comparison {
  /// Most rows of encoded images that an evaluation keeps: one image, and each control's, whole, and that image once more
  /// as each setting has it that drops tokens in the encoder; with what is added behind the decoder's first layers.
  package func keptRows(_ vision: VisionConfig) -> Int {
    let tokens = vision.maxVisualTokenCount
    var zipped: [String: Int] = [:]
    for setting in settings where setting.pruning.method.zips {
      let route = try? setting.pruning.route(tokenCount: tokens, layerCount: setting.rows.count)
      zipped[setting.identity] = (route?.entryCount ?? tokens) + vision.maxRowCount - tokens
    }
    let rows = (1 + controls.count) * vision.maxRowCount + zipped.values.reduce(0, +)
    return (1 + vision.deepstackCount) * rows
  }
}
