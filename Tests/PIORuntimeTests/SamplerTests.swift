import PIORuntime
import Testing

/// A sampler over its own memory.
private func sample(
  _ logits: [Float], _ sampling: Sampling, draws: Int, seen: [Int32] = [], allowed: [Int]? = nil
) -> [Int32?] {
  let bits = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: (logits.count + 7) / 8)
  let candidates = UnsafeMutableBufferPointer<Int32>.allocate(capacity: logits.count)
  let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: logits.count)
  let mask = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: (logits.count + 7) / 8)
  defer {
    bits.deallocate()
    candidates.deallocate()
    copy.deallocate()
    mask.deallocate()
  }
  bits.initialize(repeating: 0)
  candidates.initialize(repeating: 0)
  mask.initialize(repeating: 0)
  // Bits behind the last token mean nothing.
  for token in allowed ?? [] { mask[token / 8] |= 1 << (token % 8) }
  if logits.count % 8 != 0 { mask[mask.count - 1] |= .max << (logits.count % 8) }
  var sampler = Sampler(sampling, seen: bits, candidates: candidates)
  seen.forEach { sampler.note($0) }
  return (0..<draws).map { _ in
    _ = copy.initialize(from: logits)
    return sampler.next(
      copy, allowed: allowed.map { _ in TokenMask(UnsafeBufferPointer(mask)) })
  }
}

private let logits: [Float] = [1, 4, 2, 3.5, -1, 0, 3, -7]

/// Softmax in f64 over the tokens that a filter keeps, in the order temperature, top-k, top-p, min-p, then of these over
/// the allowed ones; over all allowed ones where none is left.
private func reference(
  _ sampling: Sampling, _ logits: [Float] = logits, allowed: [Int]? = nil
) -> [Int32: Double] {
  let scaled = logits.map { Double($0) / Double(sampling.temperature) }
  let most = scaled.max()!
  var ranked = scaled.enumerated().sorted { $0.element > $1.element }
  func isAllowed(_ token: Int) -> Bool { allowed?.contains(token) ?? true }
  let everyAllowed = ranked.filter { isAllowed($0.offset) }
  if sampling.topK > 0 { ranked = Array(ranked.prefix(sampling.topK)) }
  func normalised(_ pairs: [(offset: Int, element: Double)]) -> [(Int32, Double)] {
    let powers = pairs.map { Double.exp2(($0.element - most) * 1.4426950408889634) }
    let total = powers.reduce(0, +)
    return zip(pairs, powers).map { (Int32($0.offset), $1 / total) }
  }
  var kept = normalised(ranked)
  if sampling.topP < 1 {
    var sum = 0.0
    let count = kept.firstIndex {
      sum += $0.1; return sum >= Double(sampling.topP)
    }
    kept = Array(kept.prefix((count ?? kept.count - 1) + 1))
  }
  kept = kept.filter { $0.1 >= Double(sampling.minP) * kept[0].1 && isAllowed(Int($0.0)) }
  if kept.isEmpty { kept = normalised(everyAllowed) }
  let total = kept.reduce(0) { $0 + $1.1 }
  return Dictionary(uniqueKeysWithValues: kept.map { ($0.0, $0.1 / total) })
}

/// Logits far below the likeliest one at low temperatures.
private let steep: [Float] = [10, 0.02, 0, -0.01, 0.03, -0.04, -8, 0.01, -9, 0.05, -0.02]

private struct Masked: CustomTestStringConvertible {
  var temperature: Float = 1
  var topK = 0
  var topP: Float = 1
  var minP: Float = 0
  var logits = PIORuntimeTests.logits
  let allowed: [Int]

  var sampling: Sampling {
    var sampling = Sampling()
    sampling.temperature = temperature
    sampling.topK = topK
    sampling.topP = topP
    sampling.minP = minP
    sampling.seed = 11
    return sampling
  }

  var testDescription: String { "T \(temperature), \(topK), \(topP), \(minP), \(allowed)" }
}

private let masked: [Masked] = [
  Masked(allowed: [0, 2, 5, 6]), Masked(allowed: Array(0..<8)), Masked(allowed: [7]),
  Masked(temperature: 1.5, topK: 4, allowed: [0, 2, 3, 6]),
  Masked(topK: 3, allowed: [0, 2, 4, 5]),  // none of the top 3
  Masked(topP: 0.8, allowed: [0, 3, 6]), Masked(topP: 0.5, allowed: [0, 2, 5]),
  Masked(minP: 0.1, allowed: [0, 2, 3, 6]), Masked(minP: 0.9, allowed: [0, 2, 6]),
  Masked(temperature: 1.2, topK: 6, topP: 0.9, minP: 0.1, allowed: [2, 3, 5, 6]),
  Masked(temperature: 1.2, topK: 2, topP: 0.9, minP: 0.1, allowed: [2, 5, 6]),
  // So far behind that beside the likeliest token's weight theirs are 0.
  Masked(temperature: 0.05, logits: steep, allowed: [1, 2, 3, 5, 7, 9]),
  Masked(temperature: 0.05, topP: 0.9, logits: steep, allowed: [1, 2, 3, 5]),
  Masked(temperature: 0.05, minP: 0.3, logits: steep, allowed: [1, 2, 3, 5]),
  Masked(temperature: 0.05, topK: 4, logits: steep, allowed: [1, 2, 3, 5, 7, 9]),
  Masked(temperature: 0.05, topK: 1, logits: steep, allowed: [1, 2, 3, 5, 7, 9]),
  Masked(temperature: 0.05, topK: 7, logits: steep, allowed: [6, 8]),
]

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

  @Test(arguments: masked)
  private func drawsFromTheDistributionOfTheAllowed(_ problem: Masked) {
    let expected = reference(problem.sampling, problem.logits, allowed: problem.allowed)
    let draws = 20_000
    var counts: [Int32: Int] = [:]
    let drawn = sample(
      problem.logits, problem.sampling, draws: draws, allowed: problem.allowed)
    for token in drawn { counts[token!, default: 0] += 1 }
    #expect(Set(counts.keys).isSubset(of: problem.allowed.map(Int32.init)))
    // Pearson's chi-square over what is expected five times or more, the rest together.
    var (statistic, cells) = (0.0, 0)
    var rest = (found: draws, expected: Double(draws))
    func add(_ found: Int, _ expected: Double) {
      statistic += (Double(found) - expected) * (Double(found) - expected) / expected
      cells += 1
    }
    for (token, probability) in expected where probability * Double(draws) >= 5 {
      let found = counts[token] ?? 0
      add(found, probability * Double(draws))
      rest = (rest.found - found, rest.expected - probability * Double(draws))
    }
    if rest.expected >= 5 { add(rest.found, rest.expected) } else { #expect(rest.found <= 30) }
    // Five standard deviations above the mean of as many degrees of freedom.
    let freedom = Double(max(1, cells - 1))
    #expect(statistic <= freedom + 5 * (2 * freedom).squareRoot(), "\(statistic), \(cells)")
  }

  @Test func aMaskOfOneTokenDrawsIt() {
    for temperature: Float in [0, 0.01, 1, 100] {
      for token in logits.indices {
        var sampling = Sampling()
        sampling.temperature = temperature
        sampling.topK = 2
        #expect(
          sample(logits, sampling, draws: 3, allowed: [token])
            == .init(
              repeating: Int32(token), count: 3))
      }
    }
  }

  @Test func greedyTakesTheLikeliestAllowed() {
    #expect(sample(logits, Sampling(), draws: 1, allowed: [0, 2, 5, 6, 7]) == [6])
    #expect(sample([2, 5, 5, 1, 5], Sampling(), draws: 1, allowed: [0, 2, 4]) == [2])
    var sampling = Sampling()
    sampling.repetitionPenalty = 2
    #expect(sample(logits, sampling, draws: 1, seen: [6], allowed: [0, 2, 6]) == [2])
  }

  @Test func aMaskOfAllTokensChangesNoDraw() {
    for problem in masked {
      let all = Array(problem.logits.indices)
      #expect(
        sample(problem.logits, problem.sampling, draws: 100, allowed: all)
          == sample(problem.logits, problem.sampling, draws: 100), "\(problem)")
    }
  }

  /// Also where the mask excludes it: the numbers are damaged.
  @Test(arguments: [Float.nan, .infinity, -.infinity], [Float(0), 1])
  func refusesLogitsThatAreNoNumbersBehindAMask(_ bad: Float, _ temperature: Float) {
    var sampling = Sampling()
    sampling.temperature = temperature
    #expect(sample([1, bad, 2], sampling, draws: 1, allowed: [0, 2]) == [nil])
  }

  @Test func beginningAnewRepeatsTheDraws() {
    let seen = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: 1)
    let candidates = UnsafeMutableBufferPointer<Int32>.allocate(capacity: 8)
    let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: 8)
    seen.initialize(repeating: 0)
    candidates.initialize(repeating: 0)
    defer {
      seen.deallocate()
      candidates.deallocate()
      copy.deallocate()
    }
    var sampling = Sampling()
    (sampling.temperature, sampling.seed, sampling.repetitionPenalty) = (1, 5, 1.5)
    var sampler = Sampler(Sampling(), seen: seen, candidates: candidates)
    var answers: [[Int32]] = []
    for _ in 0..<3 {
      sampler.begin(sampling)
      answers.append(
        (0..<30).map { _ in
          _ = copy.initialize(from: logits)
          let token = sampler.next(copy)!
          sampler.note(token)
          return token
        })
    }
    #expect(answers[1] == answers[0] && answers[2] == answers[0])
    #expect(Set(answers[0]).count > 1)
  }
}
