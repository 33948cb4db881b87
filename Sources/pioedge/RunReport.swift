import PIORuntime

/// What `run --json` prints: these names are a contract.
struct RunReport: Encodable {
  struct Timings: Encodable {
    var loadMs: Double
    var imageDecodeMs: Double
    var imageEncodeMs: Double
    var prefillMs: Double
    var firstTokenMs: Double
    var decodeTokensPerSecond: Double
  }

  struct Counts: Encodable {
    var promptTokens: Int
    var visualTokens: Int
    var visualTokensAverage: Double
    var prefilledTokens: Int
    var generatedTokens: Int
  }

  /// What an image of this turn was made for the encoder.
  struct Image: Encodable {
    let width: Int
    let height: Int
    let resizedWidth: Int
    let resizedHeight: Int
    let tiles: Int
    let visualTokens: Int

    init(_ image: PreparedImage) {
      (width, height) = (image.size.width, image.size.height)
      (resizedWidth, resizedHeight) = (image.resized.width, image.resized.height)
      (tiles, visualTokens) = (image.tileCount, image.visualTokenCount)
    }
  }

  struct Memory: Encodable {
    var peakResidentBytes: Int
    var modelBytes: Int
    var kvBytes: Int
    var workingBytes: Int
    /// What the plan said the peak would be.
    var plannedPeakBytes: Int
    /// Of weights, read since the start.
    var loadedWeightBytes: Int
  }

  var answer: String
  var tokens: [Int32]
  var finishReason: String
  var timings: Timings
  var counts: Counts
  var memory: Memory
  var images: [Image]
  var pruning: [StageReport]
  var isa: String
  var threads: Int

  /// - Parameter firstTokenMilliseconds: from the start of the process, or of the line for `--jsonl`.
  init(
    _ generation: Generation, answer: String, runtime: Runtime, loadMilliseconds: Double,
    firstTokenMilliseconds: Double
  ) {
    self.answer = answer
    tokens = generation.tokens
    finishReason = generation.finishReason.rawValue
    timings = Timings(
      loadMs: rounded(loadMilliseconds),
      imageDecodeMs: rounded(generation.prefill.imageDecodeMilliseconds),
      imageEncodeMs: rounded(generation.prefill.imageEncodeMilliseconds),
      prefillMs: rounded(generation.prefill.milliseconds),
      firstTokenMs: rounded(firstTokenMilliseconds),
      decodeTokensPerSecond: rounded(generation.decodeTokensPerSecond))
    counts = Counts(
      promptTokens: generation.prefill.promptTokens, visualTokens: generation.prefill.visualTokens,
      visualTokensAverage: rounded(generation.prefill.visualTokensAverage),
      prefilledTokens: generation.prefill.rows, generatedTokens: generation.tokens.count)
    memory = Memory(
      peakResidentBytes: ProcessStatus.peakResidentBytes, modelBytes: runtime.modelByteCount,
      kvBytes: runtime.plan.arena.kvByteCount, workingBytes: runtime.plan.arena.arenaByteCount,
      plannedPeakBytes: runtime.plan.peakBytes, loadedWeightBytes: runtime.loadedWeightBytes)
    images = generation.prefill.images.map(Image.init)
    pruning = runtime.pruningStages.map(StageReport.init)
    isa = runtime.isa
    threads = runtime.plan.limits.threadCount
  }

  /// For people, on stderr.
  var summary: String {
    return """
      load \(timings.loadMs) ms, image \(timings.imageDecodeMs) + \(timings.imageEncodeMs) ms, \
      prefill \(counts.prefilledTokens) rows \(timings.prefillMs) ms, \
      first token after \(timings.firstTokenMs) ms, \
      \(counts.generatedTokens) tokens at \(timings.decodeTokensPerSecond) tokens/s
      peak resident \(byteText(memory.peakResidentBytes)), planned \(byteText(memory.plannedPeakBytes)) \
      (model file \(byteText(memory.modelBytes)), KV cache \(byteText(memory.kvBytes)), \
      all working memory planned \(byteText(memory.workingBytes))); \(isa), \(threads) thread(s)
      """
  }
}

/// To a hundredth: what a clock on a shared machine is worth.
private func rounded(_ x: Double) -> Double { (x * 100).rounded() / 100 }
