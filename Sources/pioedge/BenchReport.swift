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
    let lowestMhz: Int
    let possibleMhz: Int
    @Nullable var hottestCelsius: Int?
    /// For people.
    let text: String

    private enum CodingKeys: CodingKey { case lowestMhz, possibleMhz, hottestCelsius }

    init(_ slowest: ProcessorClock) {
      lowestMhz = slowest.lowestMHz
      possibleMhz = slowest.possibleMHz
      hottestCelsius = slowest.hottestCelsius
      text =
        "\(slowest.lowestMHz) of \(slowest.possibleMHz) MHz at the slowest"
        + (slowest.hottestCelsius.map { ", \($0) °C at the hottest" } ?? "")
        + (slowest.isBelowFullSpeed ? ": not at full speed" : "")
    }
  }

  var model: String
  var modelBytes: Int
  var cpu = processorName()
  var isa: String
  var threads: Int
  var kv: String
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
  var loadMs: Double
  var readyMs: Double
  var limits: LimitsReport.Rates?
  /// Nil where the system does not say.
  @Nullable var clock: Clock?
  var peakResidentBytes = 0
}

/// What `bench --limits` prints.
struct LimitsReport: Encodable {
  struct Rates: Encodable {
    var int8Gmacs: Double
    var f32Gflops: Double
    var readGbs: Double

    /// The best of five measurements of each, alternating.
    init(_ meter: LimitMeter) {
      (int8Gmacs, f32Gflops, readGbs) = (0, 0, 0)
      for _ in 0..<5 {
        int8Gmacs = max(int8Gmacs, meter.int8GMACs())
        f32Gflops = max(f32Gflops, meter.f32GFLOPs())
        readGbs = max(readGbs, meter.readGBs())
      }
    }

    var text: String {
      "int8 \(decimal(int8Gmacs, 1)) GMAC/s, f32 \(decimal(f32Gflops, 1)) GFLOP/s,"
        + " reads \(decimal(readGbs, 1)) GB/s"
    }
  }

  var cpu = processorName()
  var isa: String
  var threads: Int
  var limits: Rates

  var text: String { "\(cpu), \(isa), \(threads) thread(s)\nlimits here: \(limits.text)" }
}
