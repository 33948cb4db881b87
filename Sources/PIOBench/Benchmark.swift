import PIOFormat
import PIORuntime

/// Times of one thing done several times, and beside each what the machine could do just then.
public struct Samples: Equatable, Sendable {
  /// In milliseconds, in the order they were taken.
  public let times: [Double]
  /// The machine's limit in 10⁹ units a second, as many; empty where there is none.
  public let limits: [Double]

  /// Traps if there are no times, or another number of limits.
  public init(times: [Double], limits: [Double] = []) {
    precondition(!times.isEmpty && (limits.isEmpty || limits.count == times.count), "Samples")
    (self.times, self.limits) = (times, limits)
  }

  public var median: Double { Samples.median(times) }
  public var smallest: Double { times.min()! }
  public var largest: Double { times.max()! }

  /// The median of what part of the limit beside it each run reached, of `units` a run. Traps without limits.
  public func share(units: Double) -> Double {
    Samples.median(zip(times, limits).map { units / $0 * 1e-6 / $1 })
  }

  public static func median(_ values: [Double]) -> Double {
    let sorted = values.sorted()
    let middle = sorted.count / 2
    return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
  }
}

/// Runs a model on made-up tokens and takes the time.
///
/// Each measurement begins with a run that does not count; `limit`, called behind each of the others, says what the
/// machine can do.
public struct Benchmark: Sendable {
  public var repetitions: Int

  public init(repetitions: Int) { self.repetitions = repetitions }

  /// Text rows that stand around an image when the time to the first token is taken.
  public static let textRowsWithImage = 64

  /// A prompt of so many tokens in an empty cache, to its last row's logits.
  public func prefill(
    _ runtime: Runtime, _ slot: Slot, tokens count: Int, limit: () -> Double
  ) throws(RuntimeError) -> Samples {
    let request = Request(tokens: Benchmark.tokens(count, runtime.config), maxTokens: 1)
    var (times, limits): ([Double], [Double]) = ([], [])
    for run in 0...repetitions {
      runtime.reset(slot)
      let start = ProcessStatus.monotonicMilliseconds
      _ = try runtime.append(request, to: slot)
      let time = ProcessStatus.monotonicMilliseconds - start
      guard run > 0 else { continue }
      times.append(time)
      limits.append(limit())
    }
    return Samples(times: times, limits: limits)
  }

  /// So many decode steps behind `depth` rows, each with the token that the one before chose.
  public func decode(
    _ runtime: Runtime, _ slot: Slot, tokens count: Int, depth: Int,
    limit: () -> Double
  ) throws(RuntimeError) -> Samples {
    let prompt = Request(tokens: Benchmark.tokens(depth, runtime.config), maxTokens: 1)
    var (times, limits): ([Double], [Double]) = ([], [])
    for run in 0...repetitions {
      runtime.reset(slot)
      if depth > 0 { _ = try runtime.append(prompt, to: slot) }
      var token = Benchmark.tokens(1, runtime.config)[0]
      let start = ProcessStatus.monotonicMilliseconds
      for _ in 0..<count { token = try runtime.decode(token, slot) }
      let time = ProcessStatus.monotonicMilliseconds - start
      guard run > 0 else { continue }
      times.append(time)
      limits.append(limit())
    }
    return Samples(times: times, limits: limits)
  }

  /// From the request to the first token, and how much of that the vision encoder took.
  ///
  /// With an image: it, and `textRows` text rows around it; without: these alone. The limits are the encoder's.
  public func firstToken(
    _ runtime: Runtime, _ slot: Slot, image: String?, textRows: Int,
    limit: () -> Double
  ) throws(RuntimeError) -> (total: Samples, encode: Samples, rows: Int) {
    var tokens = Benchmark.tokens(textRows, runtime.config)
    if image != nil { tokens.insert(runtime.config.specialTokens.image, at: tokens.count / 2) }
    let request = Request(tokens: tokens, images: image.map { [.file($0)] } ?? [], maxTokens: 1)
    var (totals, encodes, limits): ([Double], [Double], [Double]) = ([], [], [])
    var rows = 0
    for run in 0...repetitions {
      runtime.reset(slot)
      let generation = try runtime.generate(slot, request) { _ in true }
      rows = generation.prefill.rows
      guard run > 0 else { continue }
      totals.append(generation.firstTokenMilliseconds)
      encodes.append(generation.prefill.imageEncodeMilliseconds)
      limits.append(limit())
    }
    return (Samples(times: totals), Samples(times: encodes, limits: limits), rows)
  }

  /// Token ids that mean nothing, always the same ones; never the one that stands for an image.
  static func tokens(_ count: Int, _ config: ModelConfig) -> [Int32] {
    var state: UInt64 = 0x9E37_79B9_7F4A_7C15
    return (0..<count).map { _ in
      while true {
        // xorshift64: Marsaglia 2003.
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        let token = Int32(state % UInt64(config.text.vocabSize))
        if token != config.specialTokens.image { return token }
      }
    }
  }
}
