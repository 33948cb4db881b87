import CPIOKernels
import PIOThreads

extension Saliency {
  /// Most pivots among an image's rows, and among the text behind.
  private static let pivots = 4

  /// Keeps the pivots of an image, then for each pivot in turn the rows that resemble it least.
  ///
  /// Pivots are the rows whose keys in the block that has just run have the largest L1 norm (before the first block:
  /// the rows themselves), four of the image and four of the text behind the last one. Rows are compared by the
  /// cosine behind the final norm; ties: the earlier row. What eight do not divide goes to the first pivots. Returns
  /// the multiply-adds it took. Source: Wen et al. 2025 (DART), arXiv:2502.11494.
  func keepUnlikePivots(
    _ share: Int, of span: Range<Int>, text: Range<Int>, _ input: StageInput,
    _ selection: Selection
  ) -> Int {
    guard share > 0 else { return 0 }
    let imagePivots = min(Self.pivots, share)
    let textPivots = min(Self.pivots, text.count)
    var chosen: (Int, Int, Int, Int, Int, Int, Int, Int) = (0, 0, 0, 0, 0, 0, 0, 0)
    withUnsafeMutableBytes(of: &chosen) { bytes in
      let pivots = bytes.assumingMemoryBound(to: Int.self)
      measureKeys(text, input, selection)
      selection.sort(text)
      for rank in 0..<textPivots { pivots[imagePivots + rank] = selection.ranked(rank) }
      measureKeys(span, input, selection)
      selection.begin(span)
      selection.sort(span)
      for rank in 0..<imagePivots {
        pivots[rank] = selection.ranked(rank)
        selection.keep(pivots[rank])
      }
      let count = imagePivots + textPivots
      for index in 0..<count {
        let pivot = pivots[index]
        let unlike = Unlike(
          saliency: self, selection: selection, hidden: input.probe.hidden, pivot: pivot,
          first: span.lowerBound)
        operations.pool.run(span.count, unlike)
        let quota = (share - imagePivots) / count + (index < (share - imagePivots) % count ? 1 : 0)
        selection.fillUp(quota, span)
      }
    }
    return (imagePivots + textPivots) * span.count * 3 * config.dim
  }

  /// L1 norms of the rows' keys, all heads together, or of the rows themselves, into `scores`.
  private func measureKeys(_ rows: Range<Int>, _ input: StageInput, _ selection: Selection) {
    operations.pool.run(
      rows.count,
      KeyNorms(
        operations: operations, input: input, scores: selection.scores, first: rows.lowerBound))
  }
}

private struct KeyNorms: ParallelBody {
  let operations: Operations
  let input: StageInput
  let scores: UnsafeMutableBufferPointer<Float>
  let first: Int

  func run(task: Int, thread: Int) {
    let row = first + task
    guard let cache = input.previous else {
      let hidden = input.probe.hidden
      return scores[row] = sum(hidden[row], hidden.dim)
    }
    let key = operations.attentionScratch + thread * operations.attentionFloats
    var total: Float = 0
    for head in 0..<cache.headCount {
      var view = cache.head(head)
      let position = cache.count - input.probe.hidden.count + row
      operations.kernels.gradients.kv_read(key, &view, 0, position, 1)
      total += sum(key, cache.headDim)
    }
    scores[row] = total
  }

  private func sum(_ x: UnsafePointer<Float>, _ count: Int) -> Float {
    var total: Float = 0
    for i in 0..<count { total += abs(x[i]) }
    return total
  }
}

/// Minus the cosine between the rows and a pivot, both behind the final norm.
private struct Unlike: ParallelBody {
  let saliency: Saliency
  let selection: Selection
  let hidden: Rows
  let pivot: Int
  let first: Int

  func run(task: Int, thread: Int) {
    // The norm scales a row as a whole; only its weights change an angle.
    let (a, b, weight) = (hidden[first + task], hidden[pivot], saliency.norm)
    var (ab, aa, bb): (Float, Float, Float) = (0, 0, 0)
    for i in 0..<hidden.dim {
      let (x, y) = (a[i] * weight[i], b[i] * weight[i])
      ab += x * y
      aa += x * x
      bb += y * y
    }
    let size = (aa * bb).squareRoot()
    selection.scores[first + task] = size > 0 ? -ab / size : 0
  }
}
