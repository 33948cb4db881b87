import CPIOKernels
import PIOThreads

/// What choosing rows needs: a place for every row of a prompt.
struct SelectionRegions: Equatable, Sendable {
  let scores: Region<Float>
  let lengths: Region<Float>
  let order: Region<Int32>
  let marks: Region<UInt8>

  init(_ layout: inout Layout, promptRows: Int) {
    scores = layout.reserve(promptRows)
    lengths = layout.reserve(promptRows)
    order = layout.reserve(promptRows)
    marks = layout.reserve(promptRows)
  }
}

/// Chooses rows of a span by a score for each.
struct Selection {
  let operations: Operations
  /// One for each row of the prompt; written by whoever ranks.
  let scores: UnsafeMutableBufferPointer<Float>
  let lengths: UnsafeMutableBufferPointer<Float>
  /// Which token each row is; ends of lines are never chosen. Nil: every row may be.
  var origins: UnsafeMutableBufferPointer<Int32>?
  private let order: UnsafeMutableBufferPointer<Int32>
  private let marks: UnsafeMutableBufferPointer<UInt8>

  /// Candidates that are compared with the kept rows at a time, on all threads.
  private static let batch = 32
  private static let kept: UInt8 = 1
  private static let similar: UInt8 = 2

  init(operations: Operations, regions: SelectionRegions, arena: borrowing Arena) {
    self.operations = operations
    scores = arena.buffer(regions.scores)
    lengths = arena.buffer(regions.lengths)
    order = arena.buffer(regions.order)
    marks = arena.buffer(regions.marks)
  }

  /// Marks no row of the span as kept.
  func begin(_ span: Range<Int>) { for row in span { marks[row] = 0 } }

  func keep(_ row: Int) { marks[row] = Self.kept }

  func isKept(_ row: Int) -> Bool { marks[row] == Self.kept }

  func isToken(_ row: Int) -> Bool { origins.map { VisualRows.isToken($0[row]) } ?? true }

  /// Writes the kept rows of the span, ascending. Returns how many they are.
  @discardableResult
  func write(_ span: Range<Int>, to out: UnsafeMutablePointer<Int32>) -> Int {
    var count = 0
    for row in span where isKept(row) {
      out[count] = Int32(row)
      count += 1
    }
    return count
  }

  /// Keeps text between the tokens, and the end of each line that has a kept token.
  func keepRowsBetween(_ span: Range<Int>, _ layout: VisualLayout) {
    guard let origins else { return }
    var hasToken = false
    for row in span {
      if origins[row] == VisualRows.text {
        keep(row)
      } else if !isToken(row) {
        if hasToken { keep(row) }
        hasToken = false
      } else if isKept(row) && layout.endsLine(of: Int(origins[row])) {
        hasToken = true
      }
    }
  }

  /// Keeps the `share` rows of the highest score; ties: the earlier row.
  func keepHighest(_ share: Int, of span: Range<Int>) {
    begin(span)
    sort(span)
    for rank in 0..<share { keep(Int(order[rank])) }
  }

  /// Keeps `share` rows by falling score, skipping those too similar to one already kept (NMS).
  ///
  /// Shapes: `hidden` is `(n, dim)`; the span and `scores` count its rows. A row is skipped at a cosine of
  /// `threshold` or more; a row of zeros is similar to none. If too few remain, the skipped rows of the highest score
  /// fill up. Ties keep the earlier row, so equal inputs prune alike. Returns the multiply-adds it took.
  ///
  /// Rows that are kept already (`begin` forgets them) count among the share and come first.
  func keepDistinct(_ share: Int, of span: Range<Int>, in hidden: Rows, threshold: Float) -> Int {
    let tokens = sort(span)
    measure(span, hidden)
    var products = 0
    // The kept rows take the place of ranks that were passed: `order[0..<kept]`, while ranks go on behind. The
    // skipped ones are remembered by their marks.
    var keptCount = moveKeptAhead(tokens)
    var rank = keptCount
    while rank < tokens && keptCount < share {
      let ranks = rank..<min(tokens, rank + Self.batch)
      let before = keptCount
      if before > 0 {
        let work = Similarity(
          selection: self, hidden: hidden, threshold: threshold, first: ranks.lowerBound,
          kept: 0..<before)
        operations.pool.run(ranks.count, work)
        products += ranks.count * before
      }
      for rank in ranks where keptCount < share && marks[Int(order[rank])] != Self.similar {
        let row = Int(order[rank])
        let isSimilar = (before..<keptCount).contains {
          resembles(row, Int(order[$0]), hidden, threshold)
        }
        products += keptCount - before
        if isSimilar {
          marks[row] = Self.similar
        } else {
          keep(row)
          // Not before `keptCount`: what is swapped away has been passed.
          order.swapAt(keptCount, rank)
          keptCount += 1
        }
      }
      rank = ranks.upperBound
    }
    if keptCount < share { fillUp(share - keptCount, span) }
    return (products + span.count) * hidden.dim
  }

  /// Puts the kept rows in front of the order, which stays as it is otherwise. Returns how many they are.
  private func moveKeptAhead(_ count: Int) -> Int {
    var front = 0
    for rank in 0..<count where isKept(Int(order[rank])) {
      let row = order[rank]
      for index in (front..<rank).reversed() { order[index + 1] = order[index] }
      order[front] = row
      front += 1
    }
    return front
  }

  /// Keeps the row of the highest score in each cell of a grid of at most `count` cells over the image.
  ///
  /// `tokens` tells which token of a grid of `lines` a row of the span is; one that is none is below 0. Ties keep the
  /// earlier row.
  func keepBestOfCells(
    _ count: Int, of span: Range<Int>, lines: Int, lineLength: Int, tokens: (Int) -> Int
  ) {
    guard count > 0, lines > 0, lineLength > 0 else { return }
    let rows = min(lines, max(1, Int(Double(count).squareRoot())))
    let columns = min(lineLength, count / rows)
    // The best row of each cell; the order is made anew before it is read.
    let best = order
    for cell in 0..<(rows * columns) { best[cell] = -1 }
    for row in span {
      let token = tokens(row)
      guard token >= 0 else { continue }
      let (line, column) = token.quotientAndRemainder(dividingBy: lineLength)
      let cell = line * rows / lines * columns + column * columns / lineLength
      if best[cell] < 0 || scores[row] > scores[Int(best[cell])] { best[cell] = Int32(row) }
    }
    for cell in 0..<(rows * columns) where best[cell] >= 0 { keep(Int(best[cell])) }
  }

  /// Keeps the highest of those that are not kept yet.
  func fillUp(_ count: Int, _ span: Range<Int>) {
    let tokens = sort(span)
    var left = count
    for rank in 0..<tokens where left > 0 && !isKept(Int(order[rank])) {
      keep(Int(order[rank]))
      left -= 1
    }
  }

  /// The lengths of the span's rows.
  func measure(_ span: Range<Int>, _ hidden: Rows) {
    operations.pool.run(
      span.count, Lengths(selection: self, hidden: hidden, first: span.lowerBound))
  }

  /// The row at a rank, highest score first, behind `sort`.
  func ranked(_ rank: Int) -> Int { Int(order[rank]) }

  func dot(_ a: Int, _ b: Int, _ hidden: Rows) -> Float {
    var result: Float = 0
    operations.kernels.gemm_f32(
      &result, 1, hidden[a], hidden.dim, hidden[b], hidden.dim, 1, 1, hidden.dim, nil, 0)
    return result
  }

  /// The cosine between two rows; 0 where one is all zeros.
  func cosine(_ a: Int, _ b: Int, _ hidden: Rows) -> Float {
    let size = lengths[a] * lengths[b]
    return size > 0 ? dot(a, b, hidden) / size : 0
  }

  fileprivate func resembles(_ a: Int, _ b: Int, _ hidden: Rows, _ threshold: Float) -> Bool {
    cosine(a, b, hidden) >= threshold
  }

  fileprivate func compare(_ rank: Int, _ kept: Range<Int>, _ hidden: Rows, _ threshold: Float) {
    let row = Int(order[rank])
    for other in kept where resembles(row, Int(order[other]), hidden, threshold) {
      marks[row] = Self.similar
      return
    }
  }

  /// Tokens of the span by falling score into `order`; a score that is no number comes last. A heap sort: in place.
  /// Returns how many they are.
  @discardableResult
  func sort(_ span: Range<Int>) -> Int {
    var count = 0
    for row in span where isToken(row) {
      order[count] = Int32(row)
      count += 1
    }
    for root in (0..<(count / 2)).reversed() { siftDown(root, count) }
    for end in (1..<max(1, count)).reversed() {
      order.swapAt(0, end)
      siftDown(0, end)
    }
    return count
  }

  /// Whether row a ranks before row b.
  private func precedes(_ a: Int32, _ b: Int32) -> Bool {
    let (x, y) = (scores[Int(a)], scores[Int(b)])
    if x.isNaN || y.isNaN { return x.isNaN == y.isNaN ? a < b : y.isNaN }
    return x > y || (x == y && a < b)
  }

  /// Restores the heap, last in rank on top.
  private func siftDown(_ start: Int, _ count: Int) {
    var root = start
    while true {
      var child = 2 * root + 1
      if child >= count { return }
      if child + 1 < count && precedes(order[child], order[child + 1]) { child += 1 }
      if !precedes(order[root], order[child]) { return }
      order.swapAt(root, child)
      root = child
    }
  }
}

private struct Similarity: ParallelBody {
  let selection: Selection
  let hidden: Rows
  let threshold: Float
  let first: Int
  let kept: Range<Int>

  func run(task: Int, thread: Int) {
    selection.compare(first + task, kept, hidden, threshold)
  }
}

private struct Lengths: ParallelBody {
  let selection: Selection
  let hidden: Rows
  let first: Int

  func run(task: Int, thread: Int) {
    let row = first + task
    selection.lengths[row] = selection.dot(row, row, hidden).squareRoot()
  }
}
