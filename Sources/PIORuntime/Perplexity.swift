import Glibc

extension Runtime {
  /// −log p of each token but the first, given those before it, in nats: one fewer than `tokens`.
  ///
  /// Begins anew. Each token runs by itself, as in decoding, and takes a row of the context.
  public func negativeLogLikelihoods(
    of tokens: [Int32], in slot: Slot
  ) throws(RuntimeError) -> [Double] {
    reset(slot)
    var found: [Double] = []
    for (token, next) in zip(tokens, tokens.dropFirst()) {
      try step(token, slot)
      found.append(negativeLogLikelihood(UnsafeBufferPointer(logits(slot)), of: Int(next)))
    }
    return found
  }
}

/// log Σ exp(x) − x[token], with the largest taken out.
private func negativeLogLikelihood(_ logits: UnsafeBufferPointer<Float>, of token: Int) -> Double {
  let largest = Double(logits.max() ?? 0)
  var sum = 0.0
  for logit in logits { sum += exp(Double(logit) - largest) }
  return log(sum) + largest - Double(logits[token])
}
