/// A mean with its 95 % interval.
public struct Interval: Equatable, Sendable, Encodable {
  public let mean: Double
  public let low: Double
  public let high: Double

  public init(mean: Double, low: Double, high: Double) {
    self.mean = mean
    self.low = low
    self.high = high
  }
}

/// The paired bootstrap: the mean of differences that belong together, and the 2.5 and 97.5 percentiles of the means of
/// resamples with replacement. The same input gives the same interval.
///
/// Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
public func pairedBootstrap(_ differences: [Double], resamples: Int = 10_000) -> Interval {
  guard !differences.isEmpty else { return Interval(mean: 0, low: 0, high: 0) }
  let count = differences.count
  let mean = differences.reduce(0, +) / Double(count)
  var generator = Xorshift()
  var means = [Double](repeating: 0, count: resamples)
  differences.withUnsafeBufferPointer { differences in
    for resample in 0..<resamples {
      var sum = 0.0
      for _ in 0..<count {
        // The upper half of a product of 64 bits: as good as a remainder, and quicker.
        sum += differences[Int(generator.next().multipliedFullWidth(by: UInt64(count)).high)]
      }
      means[resample] = sum / Double(count)
    }
  }
  means.sort()
  let last = resamples - 1
  return Interval(
    mean: mean, low: means[Int(0.025 * Double(resamples))],
    high: means[min(last, Int((0.975 * Double(resamples)).rounded(.up)))])
}

/// Source: Marsaglia 2003 and Vigna 2016 (xorshift64*), doi:10.1145/2845077.
private struct Xorshift {
  var state: UInt64 = 0x9E37_79B9_7F4A_7C15

  mutating func next() -> UInt64 {
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

/// Whether a first way is better than a second one.
public enum Verdict: String, Sendable, Encodable {
  /// The interval of the difference lies above 0.
  case beats
  /// It includes 0.
  case tie
  /// It lies below 0.
  case loses

  init(_ interval: Interval) {
    self = interval.low > 0 ? .beats : interval.high < 0 ? .loses : .tie
  }
}
