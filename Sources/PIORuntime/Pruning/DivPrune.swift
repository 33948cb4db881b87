import CPIOKernels
import PIOThreads

extension Selection {
  /// Keeps rows that are far from each other: first the one whose nearest other is farthest, then whichever is
  /// farthest from all kept. The distance is 1 − cosine; ties: the earlier row. Returns the multiply-adds it took.
  /// Source: Alvar et al. 2025 (DivPrune), arXiv:2503.02175.
  func keepDiverse(_ share: Int, of span: Range<Int>, in hidden: Rows) -> Int {
    guard share > 0 else { return 0 }
    begin(span)
    measure(span, hidden)
    operations.pool.run(
      span.count, Nearest(selection: self, hidden: hidden, span: span, added: nil))
    for kept in 0..<share {
      var farthest: Int?
      for row in span where !isKept(row) && isToken(row) {
        if farthest.map({ scores[row] > scores[$0] }) ?? true { farthest = row }
      }
      keep(farthest!)
      if kept == 0 { for row in span { scores[row] = .infinity } }
      operations.pool.run(
        span.count, Nearest(selection: self, hidden: hidden, span: span, added: farthest))
    }
    return (span.count * (span.count + share + 1)) * hidden.dim
  }
}

/// The distance from each row to the nearest of all others, or what it becomes when one more is kept.
private struct Nearest: ParallelBody {
  let selection: Selection
  let hidden: Rows
  let span: Range<Int>
  let added: Int?

  func run(task: Int, thread: Int) {
    let row = span.lowerBound + task
    if let added {
      let distance = 1 - selection.cosine(row, added, hidden)
      selection.scores[row] = min(selection.scores[row], distance)
      return
    }
    var nearest = Float.infinity
    for other in span where other != row && selection.isToken(other) {
      nearest = min(nearest, 1 - selection.cosine(row, other, hidden))
    }
    selection.scores[row] = nearest
  }
}
