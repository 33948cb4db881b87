import CPIOKernels

extension Saliency {
  /// Scores visual rows by the attention they get from the last row, the mean over the heads.
  ///
  /// In the block that has just run; before the first block, in the first. Returns the multiply-adds it took.
  /// Source: Chen et al. 2024 (FastV), arXiv:2403.06764.
  func rankByAttention(
    _ input: StageInput, lastQuery: Rows, _ visual: VisualRows,
    into scores: UnsafeMutableBufferPointer<Float>
  ) -> Int {
    let count = input.probe.hidden.count
    let weights: Rows
    let earlier: Int
    if let previous = input.previous {
      weights = attention(of: lastQuery, in: previous)
      earlier = previous.count - count
    } else {
      weights = attention(input.probe.with(proxies: (count - 1)..<count))
      earlier = input.probe.earlierRows
    }
    for image in 0..<visual.imageCount {
      for row in visual[image] {
        var sum: Float = 0
        for head in 0..<weights.count { sum += weights[head][earlier + row] }
        scores[row] = sum / Float(weights.count)
      }
    }
    let queryDim = config.headCount * config.headDim
    let keys = input.previous == nil ? 2 * count * config.kvHeadCount * config.headDim : 0
    return keys * config.dim + queryDim * (earlier + count)
  }
}

extension Probe {
  func with(proxies: Range<Int>) -> Probe {
    Probe(
      weights: weights, cache: cache, earlierRows: earlierRows, hidden: hidden,
      rotations: rotations, offsets: offsets, proxies: proxies)
  }
}
