import PIOFormat

/// A change that may bring the need under the cap.
private struct Remedy {
  /// The option of the command line.
  let text: String
  let change: (inout ModelSizes, inout Limits) -> Void
}

extension Plan {
  /// Changes of the limits that would bring the need under the cap, or, where none does alone, all that lower it.
  public static func remedies(
    _ model: ModelSizes, limits: Limits, process: ProcessMemory
  ) -> [String] {
    guard let cap = limits.memoryCap else { return [] }
    func smallest(_ model: ModelSizes, _ limits: Limits) -> Int {
      (try? Plan(model, limits: limits, process: process))?.smallestCapBytes ?? Int.max
    }
    var (leanest, all) = (model, limits)
    var found: [(text: String, smallest: Int)] = []
    for remedy in conceivable(model, limits) {
      var (changed, changedLimits) = (model, limits)
      remedy.change(&changed, &changedLimits)
      remedy.change(&leanest, &all)
      if changed != model || changedLimits != limits {
        found.append((remedy.text, smallest(changed, changedLimits)))
      }
    }
    let now = smallest(model, limits)
    let enough = found.filter { $0.smallest <= cap }
    if !enough.isEmpty { return enough.map(\.text) }
    let helpful = found.filter { $0.smallest < now }.map(\.text)
    return helpful.isEmpty
      ? [] : [helpful.joined(separator: " ") + " (together \(smallest(leanest, all)) bytes)"]
  }

  private static func conceivable(_ model: ModelSizes, _ limits: Limits) -> [Remedy] {
    var remedies: [Remedy] = []
    func add(_ text: String, _ change: @escaping (inout Limits) -> Void) {
      remedies.append(Remedy(text: text) { _, limits in change(&limits) })
    }
    if limits.stream == .off { add("--stream auto") { $0.stream = .auto } }
    if limits.kv != .int8 { add("--kv int8") { $0.kv = .int8 } }
    let vision = limits.imageCount > 0 ? model.config.vision : nil
    if let vision { remedies += visualRemedies(model, vision, limits) }
    if limits.contextRows >= 512 {
      let rows = limits.contextRows / 4
      add("--context \(rows)") { $0.contextRows = rows }
    }
    if limits.imageCount > 1 { add("--images 1") { $0.imageCount = 1 } }
    if vision != nil, limits.codecBytes ?? Limits.minCodecBytes > 1 << 20 {
      add("--codec-memory 1MiB") { $0.codecBytes = 1 << 20 }
    }
    if vision != nil, limits.maxImagePixels > 4_000_000 {
      add("--max-image-pixels 1000000") { $0.maxImagePixels = 1_000_000 }
    }
    return remedies
  }

  /// Fewer visual tokens.
  private static func visualRemedies(
    _ model: ModelSizes, _ vision: VisionConfig, _ limits: Limits
  ) -> [Remedy] {
    var remedies: [Remedy] = []
    if !limits.pruning.prunes {
      let count = max(1, vision.maxVisualTokenCount / 9)
      remedies.append(
        Remedy(text: "--visual-tokens \(count)") { _, limits in
          limits.pruning.budget = .average(count)
          if limits.pruning.method == .none { limits.pruning.method = Pruning().method }
        })
    }
    if let fewer = model.withFewestTokens {
      remedies.append(
        Remedy(text: "--image-tokens \(fewer.count)") { model, _ in model = fewer.model })
    }
    return remedies
  }
}
