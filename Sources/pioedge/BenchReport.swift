import FoundationEssentials
import PIOBench
import PIOFormat
import PIORuntime
import PIOThreads

/// What `bench` prints. `prefill`, `decode`, `image_encode_ms`, `limits` and the keys in them are a contract.
struct BenchReport: Encodable {
  struct Prefill: Encodable {
    var tokens: Int
    var tokensPerSecond: Double
    var tokensPerSecondMin: Double
    var tokensPerSecondMax: Double
    /// Multiply-adds by weight matrices.
    var gmacs: Double
    /// Nil for a model with float matrices, which the integer peak says nothing about.
    var shareOfInt8Peak: Nullable<Double>
  }

  struct Decode: Encodable {
    var tokens: Int
    var depth: Int
    var tokensPerSecond: Double
    var tokensPerSecondMin: Double
    var tokensPerSecondMax: Double
    /// Bytes read, the weights once a token and the cache as it is half way.
    var gbs: Double
    var shareOfBandwidth: Double
  }

  struct Image: Encodable {
    var encodeMsMin: Double
    var encodeMsMax: Double
    var gmacs: Double
    var shareOfInt8Peak: Nullable<Double>
  }

  struct FirstToken: Encodable {
    var rows: Int
    var msMin: Double
    var msMax: Double
  }

  /// At the slowest of the moments behind each run.
  struct Clock: Encodable {
    let slowest: ProcessorClock

    func encode(to encoder: any Encoder) throws {
      var container = encoder.container(keyedBy: CodingKeys.self)
      try container.encode(slowest.lowestMHz, forKey: .lowestMHz)
      try container.encode(slowest.possibleMHz, forKey: .possibleMHz)
      try container.encode(slowest.hottestCelsius, forKey: .hottestCelsius)
    }

    var text: String {
      "\(slowest.lowestMHz) of \(slowest.possibleMHz) MHz at the slowest"
        + (slowest.hottestCelsius.map { ", \($0) °C at the hottest" } ?? "")
        + (slowest.isBelowFullSpeed ? ": not at full speed" : "")
    }

    enum CodingKeys: String, CodingKey {
      case lowestMHz = "lowest_mhz"
      case possibleMHz = "possible_mhz"
      case hottestCelsius = "hottest_celsius"
    }
  }

  var model: String
  var modelBytes: Int
  var cpu = processorName()
  var isa = ""
  var threads = 1
  var kv = ""
  var repetitions: Int
  var prefill: [Prefill] = []
  @Nullable var decode: Decode?
  @Nullable var imageEncodeMs: Double?
  var image: Image?
  @Nullable var timeToFirstTokenMs: Double?
  var firstToken: FirstToken?
  /// With --visual-tokens: unpruned, then each count.
  var budgets: [BudgetReport]?
  /// Of the last of them.
  var pruning: BudgetReport.Stages?
  var loadMs = 0.0
  var readyMs = 0.0
  var limits: LimitsReport.Rates?
  /// Nil where the system does not say.
  @Nullable var clock: Clock?
  var peakResidentBytes = 0

  private let config: ModelConfig
  private let isQuantized: Bool
  private let decodeWeightByteCount: Int
  private var kvKind = KVKind.f16

  init(path: String, file: borrowing ModelFile, repetitions: Int) {
    model = path
    modelBytes = file.byteCount
    config = file.config
    isQuantized = file.firstFloatMatrix == nil
    decodeWeightByteCount = Work.decodeWeightByteCount(file.tensors, file.config.text)
    self.repetitions = repetitions
  }

  mutating func describe(_ runtime: borrowing Runtime) {
    isa = runtime.isa
    threads = runtime.plan.limits.threadCount
    kvKind = runtime.plan.limits.kv
    kv = kvKind.rawValue
  }

  mutating func addPrefill(_ count: Int, _ samples: Samples) {
    let rows = Array(repeating: count, count: config.text.layerCount)
    let macs = Double(Work(prefilling: rows, config.text).weightMACs)
    prefill.append(
      Prefill(
        tokens: count, tokensPerSecond: rate(count, samples.median),
        tokensPerSecondMin: rate(count, samples.largest),
        tokensPerSecondMax: rate(count, samples.smallest),
        gmacs: macs / samples.median * 1e-6,
        shareOfInt8Peak: Nullable(isQuantized ? samples.share(units: macs) : nil)))
  }

  mutating func setDecode(_ count: Int, depth: Int, _ samples: Samples) {
    let cached = Work.cacheByteCount(rows: 1, config.text, kv: kvKind)
    let rows = Double(depth) + Double(count + 1) / 2
    let bytes = Double(count) * (Double(decodeWeightByteCount) + rows * Double(cached))
    decode = Decode(
      tokens: count, depth: depth, tokensPerSecond: rate(count, samples.median),
      tokensPerSecondMin: rate(count, samples.largest),
      tokensPerSecondMax: rate(count, samples.smallest),
      gbs: bytes / samples.median * 1e-6, shareOfBandwidth: samples.share(units: bytes))
  }

  mutating func setImageEncode(_ samples: Samples) {
    guard let vision = config.vision else { return }
    // The largest resolution's tiles, and the one with the whole image.
    let tiles = vision.resolutions.map { $0.width * $0.height }.max() ?? 0
    let tileCount = 1 + tiles / (vision.imageSize * vision.imageSize)
    let macs = Double(tileCount * Work(encodingAnImageFor: config.text.dim, vision).weightMACs)
    imageEncodeMs = samples.median
    image = Image(
      encodeMsMin: samples.smallest, encodeMsMax: samples.largest,
      gmacs: macs / samples.median * 1e-6,
      shareOfInt8Peak: Nullable(isQuantized ? samples.share(units: macs) : nil))
  }

  mutating func setFirstToken(_ samples: Samples, rows: Int) {
    timeToFirstTokenMs = samples.median
    firstToken = FirstToken(rows: rows, msMin: samples.smallest, msMax: samples.largest)
  }

  /// The first of the runs is the unpruned one.
  mutating func setBudgets(_ runs: [PrunedRuns]) {
    let reports = runs.map { BudgetReport($0, against: runs[0], config.text, kv: kvKind) }
    budgets = reports
    pruning = reports.last?.pruning
    imageEncodeMs = reports.last?.imageEncodeMs
    timeToFirstTokenMs = reports.last?.timeToFirstTokenMs
  }

  /// While the CPUs still run as they did in what was just measured.
  mutating func noteClock() {
    guard let now = ProcessorClock() else { return }
    clock = Clock(slowest: clock.map { $0.slowest.joined(with: now) } ?? now)
  }

  /// At the first call alone: later the measurement's own memory is in it.
  mutating func notePeak() {
    if peakResidentBytes == 0 { peakResidentBytes = ProcessStatus.peakResidentBytes }
  }

  private func rate(_ count: Int, _ milliseconds: Double) -> Double {
    Double(count) / milliseconds * 1e3
  }

  enum CodingKeys: String, CodingKey {
    case model, cpu, isa, threads, kv, repetitions, prefill, decode, image, limits, budgets
    case pruning, clock
    case modelBytes = "model_bytes"
    case imageEncodeMs = "image_encode_ms"
    case timeToFirstTokenMs = "time_to_first_token_ms"
    case firstToken = "first_token"
    case loadMs = "load_ms"
    case readyMs = "ready_ms"
    case peakResidentBytes = "peak_resident_bytes"
  }
}

/// An optional that is printed as `null` instead of being left out.
@propertyWrapper
struct Nullable<Value: Encodable>: Encodable {
  var wrappedValue: Value?

  init(wrappedValue: Value?) { self.wrappedValue = wrappedValue }
  init(_ value: Value?) { wrappedValue = value }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    if let wrappedValue { try container.encode(wrappedValue) } else { try container.encodeNil() }
  }
}

extension BenchReport.Prefill {
  enum CodingKeys: String, CodingKey {
    case tokens, gmacs
    case tokensPerSecond = "tokens_per_second"
    case tokensPerSecondMin = "tokens_per_second_min"
    case tokensPerSecondMax = "tokens_per_second_max"
    case shareOfInt8Peak = "share_of_int8_peak"
  }
}

extension BenchReport.Decode {
  enum CodingKeys: String, CodingKey {
    case tokens, depth, gbs
    case tokensPerSecond = "tokens_per_second"
    case tokensPerSecondMin = "tokens_per_second_min"
    case tokensPerSecondMax = "tokens_per_second_max"
    case shareOfBandwidth = "share_of_bandwidth"
  }
}

extension BenchReport.Image {
  enum CodingKeys: String, CodingKey {
    case gmacs
    case encodeMsMin = "encode_ms_min"
    case encodeMsMax = "encode_ms_max"
    case shareOfInt8Peak = "share_of_int8_peak"
  }
}

extension BenchReport.FirstToken {
  enum CodingKeys: String, CodingKey {
    case rows
    case msMin = "ms_min"
    case msMax = "ms_max"
  }
}

/// What `bench --limits` prints.
struct LimitsReport: Encodable {
  struct Rates: Encodable {
    var int8GMACs: Double
    var f32GFLOPs: Double
    var readGBs: Double

    /// The best of five measurements of each, alternating.
    init(_ meter: LimitMeter) {
      (int8GMACs, f32GFLOPs, readGBs) = (0, 0, 0)
      for _ in 0..<5 {
        int8GMACs = max(int8GMACs, meter.int8GMACs())
        f32GFLOPs = max(f32GFLOPs, meter.f32GFLOPs())
        readGBs = max(readGBs, meter.readGBs())
      }
    }

    var text: String {
      "int8 \(decimal(int8GMACs, 1)) GMAC/s, f32 \(decimal(f32GFLOPs, 1)) GFLOP/s,"
        + " reads \(decimal(readGBs, 1)) GB/s"
    }

    enum CodingKeys: String, CodingKey {
      case int8GMACs = "int8_gmacs"
      case f32GFLOPs = "f32_gflops"
      case readGBs = "read_gbs"
    }
  }

  var cpu = processorName()
  var isa: String
  var threads: Int
  var limits: Rates

  var text: String { "\(cpu), \(isa), \(threads) thread(s)\nlimits here: \(limits.text)" }
}
