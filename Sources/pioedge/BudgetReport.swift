import PIOBench
import PIOFormat
import PIORuntime

/// One way to prune in `bench --image --visual-tokens`: these names are a contract. Times are medians of the rounds,
/// speed-ups medians of each round's ratio to the unpruned run in it.
struct BudgetReport: Encodable {
  struct Stages: Encodable {
    var milliseconds: Double
    var shareOfPrefill: Double
    /// Multiply-adds of the stages in the decoder.
    var macs: Int
  }

  struct Ratios: Encodable {
    var prefill: Double
    var prefillMin: Double
    var prefillMax: Double
    var firstToken: Double
    var answer: Double
    /// Multiply-adds of the prefill, the stages included.
    var prefillMacs: Double
    /// Rows filled behind the prompt.
    var kvBytes: Double
  }

  var method: String
  var visualTokensAverage: Double
  var prefillMs: Double
  var imageEncodeMs: Double
  var encodeShareOfFirstToken: Double
  var timeToFirstTokenMs: Double
  var answerMs: Double
  var prefillMacs: Int
  var kvBytes: Int
  var kvCapacityBytes: Int
  var pruning: Stages
  var speedup: Ratios

  init(_ runs: PrunedRuns, against whole: PrunedRuns, _ text: TextConfig, kv: KVKind) {
    method = runs.pruning.prunes ? runs.pruning.method.rawValue : PruneMethod.none.rawValue
    visualTokensAverage = runs.visualTokensAverage
    prefillMs = Samples.median(runs.prefill)
    imageEncodeMs = Samples.median(runs.encode)
    encodeShareOfFirstToken = Samples.median(zip(runs.encode, runs.firstToken).map { $0 / $1 })
    timeToFirstTokenMs = Samples.median(runs.firstToken)
    answerMs = Samples.median(runs.answer)
    func macs(_ runs: PrunedRuns) -> Int { runs.prefillMACs(text) }
    func bytes(_ runs: PrunedRuns) -> Int {
      Work.cacheByteCount(layerRows: runs.rows.reduce(0, +), text, kv: kv)
    }
    prefillMacs = macs(runs)
    kvBytes = bytes(runs)
    kvCapacityBytes = runs.cacheCapacityBytes
    pruning = Stages(
      milliseconds: Samples.median(runs.stages),
      shareOfPrefill: Samples.median(zip(runs.stages, runs.prefill).map { $0 / $1 }),
      macs: runs.stageMACs)
    let prefill = zip(whole.prefill, runs.prefill).map { $0 / $1 }
    speedup = Ratios(
      prefill: Samples.median(prefill), prefillMin: prefill.min()!, prefillMax: prefill.max()!,
      firstToken: Samples.median(zip(whole.firstToken, runs.firstToken).map { $0 / $1 }),
      answer: Samples.median(zip(whole.answer, runs.answer).map { $0 / $1 }),
      prefillMacs: Double(macs(whole)) / Double(macs(runs)),
      kvBytes: Double(bytes(whole)) / Double(bytes(runs)))
  }

  /// The table for people.
  static func text(_ budgets: [BudgetReport]) -> String {
    var rows = [
      [
        "visual tokens", "prefill", "stages", "faster", "fewer MACs", "smaller cache", "KV filled",
        "capacity", "encode", "first token", "faster", "answer", "faster",
      ]
    ]
    for budget in budgets {
      let ratios = budget.speedup
      rows.append([
        "\(decimal(budget.visualTokensAverage, 1)) \(budget.method)",
        "\(decimal(budget.prefillMs, 1)) ms",
        "\(decimal(100 * budget.pruning.shareOfPrefill, 1)) %",
        "\(decimal(ratios.prefill, 2)) (\(decimal(ratios.prefillMin, 2)) – \(decimal(ratios.prefillMax, 2)))",
        decimal(ratios.prefillMacs, 2), decimal(ratios.kvBytes, 2), byteText(budget.kvBytes),
        byteText(budget.kvCapacityBytes), "\(decimal(budget.imageEncodeMs, 1)) ms",
        "\(decimal(budget.timeToFirstTokenMs, 1)) ms", decimal(ratios.firstToken, 2),
        "\(decimal(budget.answerMs, 1)) ms", decimal(ratios.answer, 2),
      ])
    }
    return table(rows, right: Set(1..<13))
  }
}
