import PIOBench
import PIOFormat
import PIORuntime
import PIOThreads
import PIOVision

/// What of a model file its measurements refer to.
struct BenchedModel {
  let path: String
  let byteCount: Int
  let config: ModelConfig
  /// Every matrix is in integers: the integer peak says how fast it could be.
  let isQuantized: Bool
  /// Read for each token.
  let decodeWeightByteCount: Int

  init(_ path: String, _ file: borrowing ModelFile) {
    self.path = path
    byteCount = file.byteCount
    config = file.config
    isQuantized = file.firstFloatMatrix == nil
    decodeWeightByteCount = Work.decodeWeightByteCount(file.tensors, file.config.text)
  }
}

/// Measures a model piece by piece; the report grows with each.
struct BenchRun {
  private(set) var report: BenchReport
  private let model: BenchedModel
  private let kv: KVKind
  private let slot: Slot
  private let benchmark: Benchmark
  private let meter: LimitMeter
  private var slowestClock: ProcessorClock?

  /// - Parameter loadMilliseconds: what it took to open the file and make the runtime.
  init(
    _ model: BenchedModel, _ runtime: Runtime, _ slot: Slot, repetitions: Int,
    loadMilliseconds: Double
  ) throws(RuntimeError) {
    let limits = runtime.plan.limits
    report = BenchReport(
      model: model.path, modelBytes: model.byteCount, isa: runtime.isa, threads: limits.threadCount,
      kv: limits.kv.rawValue, repetitions: repetitions, loadMs: loadMilliseconds,
      readyMs: ProcessStatus.millisecondsSinceStart)
    self.model = model
    self.slot = slot
    kv = limits.kv
    benchmark = Benchmark(repetitions: repetitions)
    meter = try LimitMeter(isa: runtime.isa, threadCount: limits.threadCount)
  }

  mutating func measurePrefill(_ runtime: Runtime, tokens count: Int) throws {
    let (benchmark, meter) = (benchmark, meter)
    let samples = try benchmark.prefill(runtime, slot, tokens: count) {
      noteClock()
      return meter.int8GMACs()
    }
    let text = model.config.text
    let rows = Array(repeating: count, count: text.layerCount)
    let macs = Double(Work(prefilling: rows, text).weightMACs)
    report.prefill.append(
      BenchReport.Prefill(
        tokens: count, tokensPerSecond: rate(count, samples.median),
        tokensPerSecondMin: rate(count, samples.largest),
        tokensPerSecondMax: rate(count, samples.smallest),
        gmacs: macs / samples.median * 1e-6, shareOfInt8Peak: share(samples, macs)))
  }

  /// Unpruned, which is the first, and each of the other ways in turn.
  mutating func comparePrunings(
    _ runtime: Runtime, _ ways: [Pruning], answerTokens: Int
  ) throws {
    let benchmark = benchmark
    let runs = try withSampleImage(for: model.config) { path in
      try benchmark.compare(ways, runtime, slot, image: path, answerTokens: answerTokens)
    }
    noteClock()
    let budgets = runs.map { BudgetReport($0, against: runs[0], model.config.text, kv: kv) }
    report.budgets = budgets
    report.pruning = budgets.last?.pruning
    report.imageEncodeMs = budgets.last?.imageEncodeMs
    report.timeToFirstTokenMs = budgets.last?.timeToFirstTokenMs
  }

  /// How long the encoder takes, and until the first token.
  mutating func measureImage(_ runtime: Runtime, _ vision: VisionConfig) throws {
    let encode = try withSampleImage(for: model.config) { path in
      try measureFirstToken(runtime, image: path, textRows: Benchmark.textRowsWithImage)
    }
    let work = Work(encodingAnImageFor: model.config.text.dim, vision)
    let macs = Double(vision.summary.inputCount * work.weightMACs)
    report.imageEncodeMs = encode.median
    report.image = BenchReport.Image(
      encodeMsMin: encode.smallest, encodeMsMax: encode.largest,
      gmacs: macs / encode.median * 1e-6, shareOfInt8Peak: share(encode, macs))
  }

  /// Returns what the encoder took of it.
  @discardableResult
  mutating func measureFirstToken(
    _ runtime: Runtime, image: String?, textRows: Int
  ) throws -> Samples {
    let (benchmark, meter) = (benchmark, meter)
    let times = try benchmark.firstToken(runtime, slot, image: image, textRows: textRows) {
      noteClock()
      return meter.int8GMACs()
    }
    report.timeToFirstTokenMs = times.total.median
    report.firstToken = BenchReport.FirstToken(
      rows: times.rows, msMin: times.total.smallest, msMax: times.total.largest)
    return times.encode
  }

  /// The last of the measurements: the memory that is read for its limit is none of the model's.
  mutating func measureDecode(_ runtime: Runtime, tokens count: Int, depth: Int) throws {
    let (benchmark, meter) = (benchmark, meter)
    let samples = try benchmark.decode(runtime, slot, tokens: count, depth: depth) {
      notePeak()
      noteClock()
      return meter.readGBs()
    }
    let cached = Work.cacheByteCount(rows: 1, model.config.text, kv: kv)
    let rows = Double(depth) + Double(count + 1) / 2
    let bytes = Double(count) * (Double(model.decodeWeightByteCount) + rows * Double(cached))
    report.decode = BenchReport.Decode(
      tokens: count, depth: depth, tokensPerSecond: rate(count, samples.median),
      tokensPerSecondMin: rate(count, samples.largest),
      tokensPerSecondMax: rate(count, samples.smallest),
      gbs: bytes / samples.median * 1e-6, shareOfBandwidth: samples.share(units: bytes))
  }

  mutating func finish() {
    notePeak()
    report.limits = LimitsReport.Rates(meter)
    report.clock = slowestClock.map(BenchReport.Clock.init)
  }

  /// While the CPUs still run as they did in what was just measured.
  private mutating func noteClock() {
    guard let now = ProcessorClock() else { return }
    slowestClock = slowestClock.map { $0.joined(with: now) } ?? now
  }

  /// At the first call alone: later the measurement's own memory is in it.
  private mutating func notePeak() {
    if report.peakResidentBytes == 0 { report.peakResidentBytes = ProcessStatus.peakResidentBytes }
  }

  private func rate(_ count: Int, _ milliseconds: Double) -> Double {
    Double(count) / milliseconds * 1e3
  }

  private func share(_ samples: Samples, _ macs: Double) -> Nullable<Double> {
    Nullable(model.isQuantized ? samples.share(units: macs) : nil)
  }
}

/// As a cheap camera gives it; for a model that cuts images into tiles, one that fills the resolution that gives it the
/// most rows.
private func withSampleImage<Result>(
  for config: ModelConfig, _ body: (String) throws -> Result
) throws -> Result {
  let largest = config.vision?.largestImage
  return try SampleImage.withFile(
    width: largest?.width ?? 640, height: largest?.height ?? 480, body)
}
