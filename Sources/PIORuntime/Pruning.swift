/// Which visual rows a stage keeps.
public enum PruneMethod: String, Sendable, CaseIterable {
  /// All of them, whatever the budget says.
  case none
  /// Evenly spaced in the picture's order.
  case uniform
  /// Drawn evenly, from a seed.
  case random

  /// Whether a stage multiplies with the head: its blocks are then in memory beside a layer.
  var readsHead: Bool {
    switch self {
    case .none, .uniform, .random: false
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

/// How many visual tokens the layers see.
public enum VisualBudget: Equatable, Sendable {
  case all
  /// So many on average over the layers, of all pictures of one prompt together.
  case average(Int)
  case stages([Schedule.Stage])
}

/// What a session does with visual tokens.
public struct Pruning: Equatable, Sendable {
  public var budget = VisualBudget.all
  public var method = PruneMethod.uniform
  public var positions = PrunedPositions.original
  /// For `random`.
  public var seed: UInt64 = 0

  public init() {}

  public var prunes: Bool { method != .none && budget != .all }

  /// The stages for a prompt with `tokenCount` visual tokens.
  public func schedule(tokenCount: Int, layerCount: Int) throws(ScheduleError) -> Schedule {
    guard method != .none, tokenCount > 0 else { return .none }
    switch budget {
    case .all: return .none
    case .average(let budget):
      return try Schedule(averaging: budget, of: tokenCount, layerCount: layerCount)
    case .stages(let stages): return try Schedule(stages, layerCount: layerCount)
    }
  }
}

/// The visual rows of the prompt in work: one span a picture, in the arena.
struct VisualRows {
  /// First row and number of rows of each picture, `(images, 2)`.
  let spans: UnsafeMutableBufferPointer<Int32>
  var imageCount = 0

  init(_ spans: UnsafeMutableBufferPointer<Int32>) { self.spans = spans }

  mutating func append(first: Int, count: Int) {
    self[imageCount] = first..<(first + count)
    imageCount += 1
  }

  subscript(image: Int) -> Range<Int> {
    get {
      let first = Int(spans[2 * image])
      return first..<(first + Int(spans[2 * image + 1]))
    }
    nonmutating set {
      spans[2 * image] = Int32(newValue.lowerBound)
      spans[2 * image + 1] = Int32(newValue.count)
    }
  }

  var count: Int { (0..<imageCount).reduce(0) { $0 + self[$1].count } }
}

/// Chooses the rows that survive a stage. Compacting them is the decoder's.
struct Pruner {
  let pruning: Pruning
  let layerCount: Int
  /// Indices into the rows in front of the stage, ascending; as long as a prompt may be.
  let kept: UnsafeMutableBufferPointer<Int32>

  /// Fills `kept` with the surviving ones of `rowCount` rows: all text rows, and `keep` visual rows shared among the
  /// pictures in proportion to their rows. Moves the pictures' spans to where their rows will be. Returns the count.
  func choose(_ keep: Int, of rowCount: Int, _ visual: VisualRows, stage: Int) -> Int {
    let total = visual.count
    guard keep < total else {
      for row in 0..<rowCount { kept[row] = Int32(row) }
      return rowCount
    }
    var count = 0
    var row = 0
    var seen = 0
    var given = 0
    for image in 0..<visual.imageCount {
      let span = visual[image]
      while row < span.lowerBound { append(row, &row, &count) }
      // What the pictures so far are owed, less what they got: shares differ by at most one row.
      seen += span.count
      let owed = (keep * seen + total / 2) / total
      let first = count
      select(owed - given, of: span, into: &count, seed: UInt64(stage) << 32 | UInt64(image))
      given = owed
      visual[image] = first..<count
      row = span.upperBound
    }
    while row < rowCount { append(row, &row, &count) }
    return count
  }

  private func append(_ index: Int, _ row: inout Int, _ count: inout Int) {
    kept[count] = Int32(index)
    count += 1
    row += 1
  }

  /// `share` ascending indices of `span` behind `count`.
  private func select(_ share: Int, of span: Range<Int>, into count: inout Int, seed: UInt64) {
    switch pruning.method {
    case .none: preconditionFailure("a stage without a method")
    case .uniform:
      for index in 0..<share {
        kept[count + index] = Int32(span.lowerBound + (2 * index + 1) * span.count / (2 * share))
      }
    case .random:
      // Selection sampling (Knuth, TAOCP 2, §3.4.2, algorithm S): one pass, ascending, every subset as likely.
      var generator = SplitMix64(state: pruning.seed ^ (seed &* 0x9E37_79B9_7F4A_7C15))
      var chosen = 0
      for (passed, row) in span.enumerated() where chosen < share {
        let left = UInt64(span.count - passed)
        if generator.next() % left < UInt64(share - chosen) {
          kept[count + chosen] = Int32(row)
          chosen += 1
        }
      }
    }
    count += share
  }
}

/// Steele et al. 2014, "Fast splittable pseudorandom number generators".
struct SplitMix64 {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
