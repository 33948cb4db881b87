import CPIOKernels

/// How the next token is chosen.
public struct Sampling: Equatable, Sendable {
  /// 0: the most likely token, always.
  public var temperature: Float = 0
  /// Only the k most likely tokens; 0: all.
  public var topK = 0
  /// The fewest tokens whose probability reaches p (Holtzman et al. 2019, arXiv:1904.09751).
  public var topP: Float = 1
  /// Only tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082).
  public var minP: Float = 0
  /// Divides positive and multiplies negative logits of tokens seen before (Keskar et al. 2019, arXiv:1909.05858).
  public var repetitionPenalty: Float = 1
  public var seed: UInt64 = 0

  public init() {}
}

/// Picks tokens from logits, in the order of Hugging Face's processors: penalty, temperature, top-k, top-p, min-p.
///
/// A mask, where there is one, comes behind all of them: they cut the distribution of all tokens, then those that the
/// mask excludes drop out. Where nothing is left, every allowed token counts.
package struct Sampler {
  package private(set) var sampling: Sampling
  private var generator: SplitMix64
  /// One bit a token: seen in the prompt or the answer.
  private let seen: UnsafeMutableBufferPointer<UInt8>
  private let candidates: UnsafeMutableBufferPointer<Int32>
  private let kernels: pio_kernels

  package init(
    _ sampling: Sampling, seen: UnsafeMutableBufferPointer<UInt8>,
    candidates: UnsafeMutableBufferPointer<Int32>,
    kernels: pio_kernels = pio_kernels_best().pointee
  ) {
    self.kernels = kernels
    self.sampling = sampling
    self.seen = seen
    self.candidates = candidates
    generator = SplitMix64(state: sampling.seed)
  }

  /// Starts a conversation: no token has been seen, and the random numbers begin anew from the seed.
  package mutating func begin(_ sampling: Sampling) {
    self.sampling = sampling
    generator = SplitMix64(state: sampling.seed)
    seen.update(repeating: 0)
  }

  package func note(_ token: Int32) {
    seen[Int(token) >> 3] |= 1 << (UInt8(truncatingIfNeeded: token) & 7)
  }

  /// The next token, or nil where a logit is not a finite number. Changes `logits`. Allocates nothing.
  ///
  /// - Parameter allowed: tokens that may come, at least one; nil: all. Traps if there is none.
  package mutating func next(
    _ logits: UnsafeMutableBufferPointer<Float>, allowed: TokenMask? = nil
  ) -> Int32? {
    precondition(logits.count == candidates.count, "sampler: vocabulary")
    precondition(allowed.map { $0.bits.count == seen.count } ?? true, "sampler: mask")
    var best = kernels.argmax(logits.baseAddress, logits.count)
    guard best < logits.count else { return nil }
    if sampling.repetitionPenalty != 1 {
      penalize(logits)
      best = kernels.argmax(logits.baseAddress, logits.count)
      guard best < logits.count else { return nil }
    }
    guard let allowed else {
      return sampling.temperature > 0 ? draw(logits, maximum: logits[best]) : Int32(best)
    }
    guard let bestAllowed = allowed.argmax(logits) else {
      preconditionFailure("sampler: the mask allows no token")
    }
    return sampling.temperature > 0
      ? draw(logits, maximum: logits[best], allowed, bestAllowed) : Int32(bestAllowed)
  }

  private func penalize(_ logits: UnsafeMutableBufferPointer<Float>) {
    for token in 0..<logits.count where seen[token >> 3] & (1 << UInt8(token & 7)) != 0 {
      let logit = logits[token]
      let changed =
        logit > 0 ? logit / sampling.repetitionPenalty : logit * sampling.repetitionPenalty
      // An extreme penalty is not damage: what is not finite is refused below.
      let most = Float.greatestFiniteMagnitude
      logits[token] = min(most, max(-most, changed))
    }
  }

  /// Weights (the likeliest has 1) replace the logits; the likeliest tokens are found by thresholds and come off a
  /// heap in falling order, so that most of the vocabulary is only looked at.
  private mutating func draw(_ weights: UnsafeMutableBufferPointer<Float>, maximum: Float) -> Int32
  {
    kernels.exp(weights.baseAddress, weights.count, maximum, 1 / sampling.temperature)
    let random = Double(uniform())
    guard let kept = keepLikeliest(weights, Cut(sampling, of: weights.count)) else {
      return drawAbove(min(1, max(0, sampling.minP)), weights, random)
    }
    return pick(weights, kept, random * kept.mass)
  }

  /// What top-k, top-p and min-p keep of all tokens, then of these the allowed ones.
  private mutating func draw(
    _ weights: UnsafeMutableBufferPointer<Float>, maximum: Float, _ allowed: TokenMask,
    _ bestAllowed: Int
  ) -> Int32 {
    var cut = Cut(sampling, of: weights.count)
    var maximum = maximum
    let logit = weights[bestAllowed]
    if (maximum - logit) / sampling.temperature > Self.farBehind {
      cut.skip(takeOut(weights, above: logit))
      maximum = logit
    }
    kernels.exp(weights.baseAddress, weights.count, maximum, 1 / sampling.temperature)
    let random = Double(uniform())
    if var kept = keepLikeliest(weights, cut) {
      keepAllowed(weights, allowed, &kept)
      if kept.count > 0 { return pick(weights, kept, random * kept.mass) }
      cut.minP = 0
    }
    allowed.clearOthers(weights)
    return drawAbove(weights[bestAllowed] >= cut.minP ? cut.minP : 0, weights, random)
  }

  /// What top-k, top-p and min-p leave, as far as it is decided by rank.
  private struct Cut {
    /// 0: all.
    var topK: Int
    var topP: Float
    var minP: Float

    init(_ sampling: Sampling, of count: Int) {
      topK = sampling.topK > 0 && sampling.topK < count ? sampling.topK : 0
      topP = sampling.topP
      minP = min(1, max(0, sampling.minP))
    }

    /// What is left to say once `count` tokens that are far likelier than all others are gone: top-p and min-p keep none
    /// behind them, top-k those that its number still reaches. Where nothing is kept, everything is.
    mutating func skip(_ count: Int) {
      topK = topP < 1 || minP > 0 ? 0 : max(0, topK - count)
      (topP, minP) = (1, 0)
    }
  }

  /// The likeliest tokens by rank: the last `count` of the first `found` candidates, the likeliest last.
  private struct Kept {
    var found: Int
    var count: Int
    var mass: Double
  }

  /// Nats behind the likeliest token from which on weights are counted anew from the best allowed one: 87 nats behind
  /// the maximum they end. top-p, which is 2^-24 below 1 or more, and any min-p that means something keep none there.
  private static let farBehind: Float = 40

  /// Takes tokens out of the logits that are likelier than `logit`; returns their number.
  private func takeOut(
    _ logits: UnsafeMutableBufferPointer<Float>, above logit: Float
  ) -> Int {
    var count = 0
    for token in logits.indices where logits[token] > logit {
      logits[token] = -.greatestFiniteMagnitude
      count += 1
    }
    return count
  }

  /// The tokens that top-k and top-p keep, min-p behind them; nil: both are off.
  private func keepLikeliest(
    _ weights: UnsafeMutableBufferPointer<Float>, _ cut: Cut
  ) -> Kept? {
    if cut.topK > 0 { return keepTopK(weights, cut) }
    guard cut.topP < 1 else { return nil }
    let goal = mass(weights) * Double(cut.topP)
    let found = gather(weights, least: cut.minP, count: .max, mass: goal)
    return popLikeliest(weights, of: found, limit: found, mass: goal)
  }

  private func keepTopK(_ weights: UnsafeMutableBufferPointer<Float>, _ cut: Cut) -> Kept {
    let found = gather(weights, least: 0, count: cut.topK)
    var kept = popLikeliest(weights, of: found, limit: cut.topK)
    if cut.topP < 1 {
      let goal = kept.mass * Double(cut.topP)
      let popped = kept.count
      (kept.count, kept.mass) = (0, 0)
      while kept.count < popped && (kept.count == 0 || kept.mass < goal) {
        kept.count += 1
        kept.mass += Double(weights[Int(candidates[found - kept.count])])
      }
    }
    while kept.count > 1, weights[Int(candidates[found - kept.count])] < cut.minP {
      kept.mass -= Double(weights[Int(candidates[found - kept.count])])
      kept.count -= 1
    }
    return kept
  }

  /// Moves the allowed ones of the kept tokens behind the others, in their order.
  private func keepAllowed(
    _ weights: UnsafeMutableBufferPointer<Float>, _ allowed: TokenMask, _ kept: inout Kept
  ) {
    let first = kept.found - kept.count
    (kept.count, kept.mass) = (0, 0)
    for index in (first..<kept.found).reversed() where allowed.allows(Int(candidates[index])) {
      kept.count += 1
      kept.mass += Double(weights[Int(candidates[index])])
      candidates.swapAt(index, kept.found - kept.count)
    }
  }

  /// Draws from all tokens that weigh at least `least`.
  private func drawAbove(
    _ least: Float, _ weights: UnsafeMutableBufferPointer<Float>, _ random: Double
  ) -> Int32 {
    let all = least > 0 ? gather(weights, least: least, count: .max) : weights.count
    let target = random * (least > 0 ? mass(weights, all) : mass(weights))
    let found = gather(weights, least: least, count: .max, mass: target)
    return pick(weights, popLikeliest(weights, of: found, limit: found, mass: target), target)
  }

  /// Puts the likeliest tokens, ids ascending, into `candidates`: at least `count` of them or the weight `mass`, and
  /// at least one, or all that weigh `least`.
  private func gather(
    _ weights: UnsafeMutableBufferPointer<Float>, least: Float, count: Int,
    mass: Double = .infinity
  ) -> Int {
    var threshold = max(least, count == .max && mass == .infinity ? 0 : 0x1p-7)
    while true {
      let found = kernels.at_least(
        candidates.baseAddress, weights.baseAddress, weights.count, threshold, weights.count)
      let isEnough = found >= count || self.mass(weights, found) >= mass
      if threshold == least || (found > 0 && isEnough) { return found }
      threshold = max(least, threshold < 0x1p-60 ? 0 : threshold * 0x1p-7)
    }
  }

  /// The weight of the first `found` candidates.
  private func mass(_ weights: UnsafeMutableBufferPointer<Float>, _ found: Int) -> Double {
    var sum = 0.0
    for index in 0..<found { sum += Double(weights[Int(candidates[index])]) }
    return sum
  }

  /// The weight of all tokens.
  private func mass(_ weights: UnsafeMutableBufferPointer<Float>) -> Double {
    weights.reduce(0) { $0 + Double($1) }
  }

  /// Moves the likeliest of the first `found` candidates behind the others, the likeliest last: `limit` of them, or
  /// as many as weigh `mass`, at least one, and none behind the first that weighs nothing.
  private func popLikeliest(
    _ weights: UnsafeMutableBufferPointer<Float>, of found: Int, limit: Int,
    mass: Double = .infinity
  ) -> Kept {
    for root in (0..<(found / 2)).reversed() { siftDown(root, found, weights) }
    var kept = Kept(found: found, count: 0, mass: 0)
    while kept.count < min(limit, found) && (kept.count == 0 || kept.mass < mass) {
      let weight = weights[Int(candidates[0])]
      if weight == 0 { break }
      let end = found - 1 - kept.count
      candidates.swapAt(0, end)
      siftDown(0, end, weights)
      kept.count += 1
      kept.mass += Double(weight)
    }
    return kept
  }

  /// The candidate at which the weights of the kept ones, likeliest first, reach `target`.
  private func pick(
    _ weights: UnsafeMutableBufferPointer<Float>, _ kept: Kept, _ target: Double
  ) -> Int32 {
    precondition(kept.count > 0, "sampler: nothing weighs anything")
    var left = target
    for index in ((kept.found - kept.count)..<kept.found).reversed() {
      left -= Double(weights[Int(candidates[index])])
      if left <= 0 { return candidates[index] }
    }
    return candidates[kept.found - kept.count]
  }

  /// Restores the heap of `candidates[0..<count]` (most likely first; ties: the lower id) below `start`.
  private func siftDown(_ start: Int, _ count: Int, _ weights: UnsafeMutableBufferPointer<Float>) {
    func before(_ a: Int32, _ b: Int32) -> Bool {
      let (x, y) = (weights[Int(a)], weights[Int(b)])
      return x > y || (x == y && a < b)
    }
    var root = start
    while true {
      var child = 2 * root + 1
      if child >= count { return }
      if child + 1 < count && before(candidates[child + 1], candidates[child]) { child += 1 }
      if before(candidates[root], candidates[child]) { return }
      candidates.swapAt(root, child)
      root = child
    }
  }

  /// 24 random bits as a number in [0, 1).
  private mutating func uniform() -> Float { Float(generator.next() >> 40) / Float(1 << 24) }
}
