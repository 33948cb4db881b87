import PIORuntime
import Testing

/// A sampler over its own memory.
private func sample(
  _ logits: [Float], _ sampling: Sampling, draws: Int, seen: [Int32] = []
) -> [Int32?] {
  let bits = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: (logits.count + 7) / 8)
  let candidates = UnsafeMutableBufferPointer<Int32>.allocate(capacity: logits.count)
  let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: logits.count)
  defer {
    bits.deallocate()
    candidates.deallocate()
    copy.deallocate()
  }
  bits.initialize(repeating: 0)
  candidates.initialize(repeating: 0)
  var sampler = Sampler(sampling, seen: bits, candidates: candidates)
  seen.forEach { sampler.note($0) }
  return (0..<draws).map { _ in
    _ = copy.initialize(from: logits)
    return sampler.next(copy)
  }
}

private let logits: [Float] = [1, 4, 2, 3.5, -1, 0, 3, -7]

/// Softmax in f64 over the tokens that a filter keeps, in the order temperature, top-k, top-p, min-p.
private func reference(_ sampling: Sampling) -> [Int32: Double] {
  let scaled = logits.map { Double($0) / Double(sampling.temperature) }
  var ranked = scaled.enumerated().sorted { $0.element > $1.element }
  if sampling.topK > 0 { ranked = Array(ranked.prefix(sampling.topK)) }
  func normalised(_ pairs: [(offset: Int, element: Double)]) -> [(Int32, Double)] {
    let total = pairs.reduce(0) { $0 + Double.exp2($1.element * 1.4426950408889634) }
    return pairs.map { (Int32($0.offset), Double.exp2($0.element * 1.4426950408889634) / total) }
  }
  var kept = normalised(ranked)
  if sampling.topP < 1 {
    var sum = 0.0
    let count = kept.firstIndex {
      sum += $0.1; return sum >= Double(sampling.topP)
    }
    kept = Array(kept.prefix((count ?? kept.count - 1) + 1))
  }
  kept = kept.filter { $0.1 >= Double(sampling.minP) * kept[0].1 }
  let total = kept.reduce(0) { $0 + $1.1 }
  return Dictionary(uniqueKeysWithValues: kept.map { ($0.0, $0.1 / total) })
}

extension Double {
  fileprivate static func exp2(_ x: Double) -> Double {
    // Only for the reference: a power series around the nearest whole exponent.
    let whole = x.rounded()
    let y = (x - whole) * 0.6931471805599453
    var term = 1.0
    var sum = 1.0
    for n in 1..<20 {
      term *= y / Double(n)
      sum += term
    }
    return sum * Double(sign: .plus, exponent: Int(whole), significand: 1)
  }
}

struct SamplerTests {
  @Test func greedyTakesTheLikeliestAndTheEarlierOfTwo() {
    #expect(sample(logits, Sampling(), draws: 2) == [1, 1])
    #expect(sample([2, 5, 5, 1], Sampling(), draws: 1) == [1])
  }

  @Test(arguments: [Float.nan, .infinity, -.infinity])
  func refusesLogitsThatAreNoNumbers(_ bad: Float) {
    #expect(sample([1, bad, 2], Sampling(), draws: 1) == [nil])
    var sampling = Sampling()
    sampling.temperature = 1
    #expect(sample([1, bad, 2], sampling, draws: 1) == [nil])
  }

  @Test(arguments: [
    (1.0, 0, 1.0, 0.0), (0.7, 3, 1.0, 0.0), (1.5, 0, 0.8, 0.0), (1.0, 0, 1.0, 0.3),
    (1.2, 6, 0.9, 0.1),
    (0.5, 1, 1.0, 0.0), (1.0, 100, 1.0, 0.0),
  ])
  func drawsFromTheFilteredDistribution(
    _ temperature: Double, _ topK: Int, _ topP: Double, _ minP: Double
  ) {
    var sampling = Sampling()
    sampling.temperature = Float(temperature)
    sampling.topK = topK
    sampling.topP = Float(topP)
    sampling.minP = Float(minP)
    sampling.seed = 7
    let expected = reference(sampling)
    let draws = 20_000
    var counts: [Int32: Int] = [:]
    for token in sample(logits, sampling, draws: draws) { counts[token!, default: 0] += 1 }
    #expect(Set(counts.keys).isSubset(of: expected.keys))
    for (token, probability) in expected {
      let share = Double(counts[token] ?? 0) / Double(draws)
      // Five standard deviations of a binomial share.
      let bound = 5 * (probability * (1 - probability) / Double(draws)).squareRoot() + 1e-9
      #expect(abs(share - probability) <= bound, "token \(token): \(share) for \(probability)")
    }
  }

  @Test func theSameSeedDrawsTheSame() {
    var sampling = Sampling()
    sampling.temperature = 1
    sampling.seed = 3
    let first = sample(logits, sampling, draws: 50)
    #expect(first == sample(logits, sampling, draws: 50))
    sampling.seed = 4
    #expect(first != sample(logits, sampling, draws: 50))
  }

  @Test func thePenaltyTurnsAwayFromSeenTokens() {
    var sampling = Sampling()
    sampling.repetitionPenalty = 2
    // 4 / 2 < 3.5: the second likeliest wins; with both seen, the unseen 3 does.
    #expect(sample(logits, sampling, draws: 1, seen: [1]) == [3])
    #expect(sample(logits, sampling, draws: 1, seen: [1, 3]) == [6])
    // A negative logit is multiplied: it must not gain.
    #expect(sample([-1, -1.5], sampling, draws: 1, seen: [0]) == [1])
  }
}
