import Glibc

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

  package init(
    _ sampling: Sampling, seen: UnsafeMutableBufferPointer<UInt8>,
    candidates: UnsafeMutableBufferPointer<Int32>
  ) {
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
    var best = 0
    for token in 0..<logits.count {
      guard logits[token].isFinite else { return nil }
    }
    if sampling.repetitionPenalty != 1 { penalize(logits) }
    for token in 0..<logits.count where logits[token] > logits[best] { best = token }
    return sampling.temperature > 0 ? draw(logits, maximum: logits[best]) : Int32(best)
  }

  private func penalize(_ logits: UnsafeMutableBufferPointer<Float>) {
    for token in 0..<logits.count where seen[token >> 3] & (1 << UInt8(token & 7)) != 0 {
      let logit = logits[token]
      logits[token] =
        logit > 0 ? logit / sampling.repetitionPenalty : logit * sampling.repetitionPenalty
    }
  }

  /// Probabilities replace the logits; tokens come off a heap in falling order until a limit is reached.
  private mutating func draw(_ logits: UnsafeMutableBufferPointer<Float>, maximum: Float) -> Int32 {
    for token in 0..<logits.count {
      logits[token] = expf((logits[token] - maximum) / sampling.temperature)
      candidates[token] = Int32(token)
    }
    let limit = sampling.topK > 0 ? min(sampling.topK, logits.count) : logits.count
    let kept = keepLikeliest(logits, limit: limit)
    // The kept ones stand at the end of `candidates`, the likeliest last.
    var total: Float = 0
    for index in (logits.count - kept)..<logits.count { total += logits[Int(candidates[index])] }
    var target = uniform() * total
    for index in ((logits.count - kept)..<logits.count).reversed() {
      target -= logits[Int(candidates[index])]
      if target <= 0 { return candidates[index] }
    }
    return candidates[logits.count - kept]
  }

  /// How many of the `limit` likeliest tokens top-p and min-p leave; at least one.
  private func keepLikeliest(_ weights: UnsafeMutableBufferPointer<Float>, limit: Int) -> Int {
    for root in (0..<(weights.count / 2)).reversed() { siftDown(root, weights.count, weights) }
    var popped = 0
    while popped < limit {
      let end = weights.count - 1 - popped
      candidates.swapAt(0, end)
      siftDown(0, end, weights)
      popped += 1
      // The likeliest has weight 1.
      if weights[Int(candidates[end])] < sampling.minP && popped > 1 { return popped - 1 }
    }
    guard sampling.topP < 1 else { return popped }
    var total: Float = 0
    for index in (weights.count - popped)..<weights.count {
      total += weights[Int(candidates[index])]
    }
    var sum: Float = 0
    for kept in 1...popped {
      sum += weights[Int(candidates[weights.count - kept])]
      if sum >= sampling.topP * total { return kept }
    }
    return popped
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
