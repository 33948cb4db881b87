import PIOFormat
import PIORuntime

/// Answers about one image, pruned one way: times in milliseconds, round by round.
public struct PrunedRuns: Sendable {
  public let pruning: Pruning
  public internal(set) var decode: [Double] = []
  public internal(set) var encode: [Double] = []
  public internal(set) var prefill: [Double] = []
  /// From the request to the first token.
  public internal(set) var firstToken: [Double] = []
  /// From the request to the last token.
  public internal(set) var answer: [Double] = []
  /// Of the prefill: what its stages took.
  public internal(set) var stages: [Double] = []
  /// Multiply-adds of the stages in the decoder.
  public internal(set) var stageMACs = 0
  /// Rows in each layer's cache behind the prompt.
  public internal(set) var rows: [Int] = []
  /// Bytes that the plan of a session as long as this prompt and its answer keeps for the cache.
  public internal(set) var cacheCapacityBytes = 0
  public internal(set) var visualTokensAverage = 0.0

  init(_ pruning: Pruning) { self.pruning = pruning }

  /// Multiply-adds of the prefill, the stages' included: an exact count.
  public func prefillMACs(_ text: TextConfig) -> Int {
    let work = Work(prefilling: rows, text)
    return work.weightMACs + work.attentionMACs + stageMACs
  }
}

extension Benchmark {
  /// Text rows around the image when ways to prune are compared.
  public static let textRowsWithPrunedImage = 44

  /// The same prompt with one image, answered once in each way to prune, then again, and so on: what disturbs the
  /// machine disturbs all of them.
  ///
  /// The answer has `answerTokens` tokens, whatever they say. The runtime's limits must name the ways (`Limits.pruning`,
  /// `Limits.alternatives`).
  public func compare(
    _ ways: [Pruning], _ runtime: Runtime, _ slot: Slot, image: String, answerTokens: Int
  ) throws(RuntimeError) -> [PrunedRuns] {
    precondition(answerTokens > 0, "an answer of no tokens")
    var tokens = Benchmark.tokens(Benchmark.textRowsWithPrunedImage, runtime.config)
    tokens.insert(runtime.config.specialTokens.image, at: tokens.count / 2)
    var request = Request(tokens: tokens, images: [.file(image)], maxTokens: 1)
    var runs = ways.map { PrunedRuns($0) }
    for index in runs.indices {
      runs[index].cacheCapacityBytes = try runtime.cacheCapacityBytes(
        ways[index], textRows: Benchmark.textRowsWithPrunedImage + answerTokens)
    }
    for round in 0...repetitions {
      for index in runs.indices {
        request.pruning = runs[index].pruning
        runtime.reset(slot)
        let start = ProcessStatus.monotonicMilliseconds
        let generation = try runtime.generate(slot, request) { _ in true }
        let rows = runtime.cachedRows(slot)
        var token = generation.tokens.first ?? tokens[0]
        for _ in 1..<max(1, answerTokens) { token = try runtime.decode(token, slot) }
        let answer = ProcessStatus.monotonicMilliseconds - start
        guard round > 0 else { continue }
        let cost = runtime.pruningCost
        runs[index].decode.append(generation.prefill.imageDecodeMilliseconds)
        runs[index].encode.append(generation.prefill.imageEncodeMilliseconds)
        runs[index].prefill.append(generation.prefill.milliseconds)
        runs[index].firstToken.append(generation.firstTokenMilliseconds)
        runs[index].answer.append(answer)
        runs[index].stages.append(cost.prefillMilliseconds)
        runs[index].stageMACs = cost.prefillMACs
        runs[index].rows = rows
        runs[index].visualTokensAverage = generation.prefill.visualTokensAverage
      }
    }
    return runs
  }
}

extension Runtime {
  /// Bytes of the cache in the plan of a session with one image that is pruned so, and `textRows` text rows.
  func cacheCapacityBytes(_ pruning: Pruning, textRows: Int) throws(RuntimeError) -> Int {
    var limits = plan.limits
    limits.pruning = pruning
    limits.alternatives = []
    limits.contextRows = textRows
    limits.imageCount = 1
    let rows = try ArenaLayout.capacities(config, limits).reduce(0, +)
    return Work.cacheByteCount(layerRows: rows, config.text, kv: limits.kv)
  }
}
