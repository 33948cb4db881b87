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
package struct Sampler {
  private let sampling: Sampling
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

  package func forgetAll() { seen.update(repeating: 0) }

  package func note(_ token: Int32) {
    seen[Int(token) >> 3] |= 1 << (UInt8(truncatingIfNeeded: token) & 7)
  }

  /// The next token, or nil where a logit is not a finite number. Changes `logits`. Allocates nothing.
  package mutating func next(_ logits: UnsafeMutableBufferPointer<Float>) -> Int32? {
    precondition(logits.count == candidates.count, "sampler: vocabulary")
    var best = kernels.argmax(logits.baseAddress, logits.count)
    guard best < logits.count else { return nil }
    if sampling.repetitionPenalty != 1 {
      penalize(logits)
      best = kernels.argmax(logits.baseAddress, logits.count)
      guard best < logits.count else { return nil }
    }
    return sampling.temperature > 0 ? draw(logits, maximum: logits[best]) : Int32(best)
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
    guard sampling.topK <= 0 || sampling.topK >= weights.count else {
      return drawOfTopK(weights, random)
    }
    let least = min(1, max(0, sampling.minP))
    if sampling.topP < 1 {
      let goal = mass(weights) * Double(sampling.topP)
      let found = gather(weights, least: least, count: .max, mass: goal)
      let (kept, sum) = popLikeliest(weights, of: found, limit: found, mass: goal)
      return pick(weights, of: found, kept: kept, random * sum)
    }
    let all = least > 0 ? gather(weights, least: least, count: .max) : weights.count
    let target = random * (least > 0 ? mass(weights, all) : mass(weights))
    let found = gather(weights, least: least, count: .max, mass: target)
    let kept = popLikeliest(weights, of: found, limit: found, mass: target).0
    return pick(weights, of: found, kept: kept, target)
  }

  private func drawOfTopK(_ weights: UnsafeMutableBufferPointer<Float>, _ random: Double) -> Int32 {
    let found = gather(weights, least: 0, count: sampling.topK)
    var (kept, sum) = popLikeliest(weights, of: found, limit: sampling.topK)
    if sampling.topP < 1 {
      let goal = sum * Double(sampling.topP)
      let popped = kept
      (kept, sum) = (0, 0)
      while kept < popped && (kept == 0 || sum < goal) {
        kept += 1
        sum += Double(weights[Int(candidates[found - kept])])
      }
    }
    while kept > 1, weights[Int(candidates[found - kept])] < sampling.minP {
      sum -= Double(weights[Int(candidates[found - kept])])
      kept -= 1
    }
    return pick(weights, of: found, kept: kept, random * sum)
  }

  /// Puts the likeliest tokens, ids ascending, into `candidates`: at least `count` of them or the weight `mass`, or
  /// all that weigh `least`.
  private func gather(
    _ weights: UnsafeMutableBufferPointer<Float>, least: Float, count: Int,
    mass: Double = .infinity
  ) -> Int {
    var threshold = max(least, count == .max && mass == .infinity ? 0 : 0x1p-7)
    while true {
      let found = kernels.at_least(
        candidates.baseAddress, weights.baseAddress, weights.count, threshold, weights.count)
      if threshold == least || found >= count || self.mass(weights, found) >= mass { return found }
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
  /// as many as weigh `mass`, at least one. Returns how many and their weight.
  private func popLikeliest(
    _ weights: UnsafeMutableBufferPointer<Float>, of found: Int, limit: Int,
    mass: Double = .infinity
  ) -> (Int, Double) {
    for root in (0..<(found / 2)).reversed() { siftDown(root, found, weights) }
    var (popped, sum) = (0, 0.0)
    while popped < min(limit, found) && (popped == 0 || sum < mass) {
      let end = found - 1 - popped
      candidates.swapAt(0, end)
      siftDown(0, end, weights)
      popped += 1
      sum += Double(weights[Int(candidates[end])])
    }
    return (popped, sum)
  }

  /// The candidate at which the weights of the kept ones, likeliest first, reach `target`.
  private func pick(
    _ weights: UnsafeMutableBufferPointer<Float>, of found: Int, kept: Int, _ target: Double
  ) -> Int32 {
    var left = target
    for index in ((found - kept)..<found).reversed() {
      left -= Double(weights[Int(candidates[index])])
      if left <= 0 { return candidates[index] }
    }
    return candidates[found - kept]
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
