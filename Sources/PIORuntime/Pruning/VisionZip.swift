import CPIOKernels
import PIOThreads

/// VisionZip: the tokens that matter most are handed over as they are, the others merged into a few.
///
/// In the layer whose output are the features, tokens are ranked by attention, summed over the heads. The highest are
/// the dominant ones. Of the rest R, in the image's order, every ⌊|R| / C⌋-th is a target; each other one belongs to
/// the target whose keys (mean over the heads) are the most similar by cosine. A contextual row is its target's
/// features plus the mean of the features that belong to it. Ties: the earlier token. A token is a patch, or several
/// that the connector joins: then attention and keys are means over them. Allocates nothing.
/// Source: Yang et al. 2024, arXiv:2412.04467, as its published code does it.
struct VisionZip {
  static let classToken: Int32 = -1

  private let operations: Operations
  private let shape: ZipShape
  let tokenCount: Int
  private let attention: Rows
  private let tile: Rows
  private let metric: Rows
  let scores: UnsafeMutablePointer<Float>
  /// For each token: itself where it was handed over, else the target that stands for it; marks while that is decided.
  let targets: UnsafeMutablePointer<Int32>
  let order: UnsafeMutablePointer<Int32>

  init(
    _ shape: ZipShape, operations: Operations, regions: ZipRegions, arena: borrowing Arena
  ) {
    let rows = shape.rowCount
    self.operations = operations
    self.shape = shape
    tokenCount = shape.tokenCount
    attention = Rows(base: arena.pointer(regions.attention), count: shape.headCount, dim: rows)
    tile = Rows(
      base: arena.pointer(regions.tile), count: regions.tile.count / rows, dim: rows)
    metric = Rows(base: arena.pointer(regions.metric), count: rows, dim: shape.headDim)
    scores = arena.pointer(regions.scores)
    targets = arena.pointer(regions.targets)
    order = arena.pointer(regions.order)
  }

  /// Ranks the tokens and keeps what is needed of the keys: between a layer's projections and its attention.
  ///
  /// `query` is `(rows, dim)`, rows as `ZipShape` says.
  func observe(_ query: Rows, _ cache: LayerCache, score: PatchScore) {
    operations.pool.run(
      shape.headCount,
      PatchAttention(
        operations: operations, query: query, cache: cache, attention: attention, tile: tile,
        score: score))
    let share = (score == .received ? 1 / Float(query.count) : 1) / Float(shape.patchesPerToken)
    for token in 0..<tokenCount {
      scores[token] = 0
      for part in 0..<shape.patchesPerToken {
        let row = shape.row(token, part)
        for head in 0..<shape.headCount { scores[token] += share * attention[head][row] }
      }
    }
    operations.pool.run(
      tokenCount, TokenKeys(operations: operations, cache: cache, shape: shape, metric: metric))
  }

  /// Picks and merges rows of the features, `(tokens, dim)`, the class token first if there is one, into `out`, which may
  /// hold as many. Returns `(request.count, dim)`, whose tokens are `order`. Tokens of padding, says `place`, take no part.
  func reduce(
    _ features: Rows, _ request: ZipRequest, _ place: TilePlace, into out: Rows
  ) -> Rows {
    mark(request, place)
    let count = makeOrder(request)
    operations.pool.run(
      count, Merging(zip: self, features: features, out: out))
    TokenMarks(marks: targets, count: tokenCount).settle()
    return out.rows(0..<count)
  }

  /// Marks the dominant tokens and the targets; each other one gets the target that stands for it.
  private func mark(_ request: ZipRequest, _ place: TilePlace) {
    let classTokens = request.keepsClassToken ? 1 : 0
    for token in 0..<tokenCount {
      targets[token] = place.token(of: token) != nil ? TokenMarks.rest : TokenMarks.padding
    }
    let available = place.patchCount
    let dominant = min(available, request.dominantCount - classTokens)
    let marks = TokenMarks(marks: targets, count: tokenCount)
    marks.markHighest(dominant, by: scores, as: TokenMarks.dominant)
    marks.pickTargets(min(request.count - classTokens - dominant, available - dominant))
    assign()
  }

  /// Fills `order` with what is handed over. Returns how many rows that is.
  private func makeOrder(_ request: ZipRequest) -> Int {
    var count = 0
    if request.keepsClassToken {
      order[0] = Self.classToken
      count = 1
    }
    let first = count
    for mark in [TokenMarks.dominant, TokenMarks.target] {
      for token in 0..<tokenCount where targets[token] == mark {
        order[count] = Int32(token)
        count += 1
      }
    }
    if request.sortsByPlace { sort(first..<count) }
    return count
  }

  /// Each of the rest goes to the target most like it. The order is not made yet: it takes the choices, so that no
  /// thread writes what another one reads.
  private func assign() {
    operations.pool.run(tokenCount, Assigning(zip: self))
    for token in 0..<tokenCount where targets[token] == TokenMarks.rest {
      targets[token] = order[token]
    }
  }

  /// The target most like a token of the rest; `rest` where there is none.
  fileprivate func nearestTarget(_ token: Int) -> Int32 {
    var best: Int?
    var most: Float = 0
    for other in 0..<tokenCount where targets[other] == TokenMarks.target {
      var cosine: Float = 0
      operations.kernels.gemm_f32(
        &cosine, 1, metric[token], metric.dim, metric[other], metric.dim, 1, 1, metric.dim, nil, 0)
      if best == nil || cosine > most {
        best = other
        most = cosine
      }
    }
    return best.map { Int32($0) } ?? TokenMarks.rest
  }

  private func sort(_ range: Range<Int>) {
    // Two ascending runs: insertion is short.
    for index in range.dropFirst() {
      var at = index
      while at > range.lowerBound && order[at] < order[at - 1] {
        (order[at], order[at - 1]) = (order[at - 1], order[at])
        at -= 1
      }
    }
  }

  fileprivate func merge(_ index: Int, _ features: Rows, _ out: Rows) {
    let chosen = order[index]
    let first = shape.hasClassToken ? 1 : 0
    let row = out[index]
    row.update(from: features[Int(chosen) + first], count: out.dim)
    guard chosen >= 0, targets[Int(chosen)] == TokenMarks.target else { return }
    var count = 0
    for token in 0..<tokenCount where targets[token] == chosen { count += 1 }
    guard count > 0 else { return }
    let part = 1 / Float(count)
    for token in 0..<tokenCount where targets[token] == chosen {
      let feature = features[token + first]
      for i in 0..<out.dim { row[i] += part * feature[i] }
    }
  }
}

/// Attention that patches get in one head: from the class token, or from all rows.
struct PatchAttention: ParallelBody {
  static let tileRows = 8

  let operations: Operations
  let query: Rows
  let cache: LayerCache
  let attention: Rows
  let tile: Rows
  let score: PatchScore

  func run(task head: Int, thread: Int) {
    let view = cache.head(head)
    let dim = cache.headDim
    let keys = view.keys.assumingMemoryBound(to: Float.self)
    let scale = 1 / Float(dim).squareRoot()
    let kernels = operations.kernels
    let count = query.count
    func probabilities(_ rows: Range<Int>, _ out: Rows) {
      kernels.gemm_f32(
        out.base, out.dim, keys, dim, query[rows.lowerBound] + head * dim, query.dim, rows.count,
        count, dim, nil, 0)
      for row in 0..<rows.count { kernels.gradients.softmax(out[row], scale, count) }
    }
    guard score == .received else {
      return probabilities(0..<1, attention.rows(head..<(head + 1)))
    }
    attention[head].update(repeating: 0, count: count)
    let rows = tile.rows((thread * Self.tileRows)..<((thread + 1) * Self.tileRows))
    var start = 0
    while start < count {
      let chunk = start..<min(count, start + Self.tileRows)
      probabilities(chunk, rows)
      for row in 0..<chunk.count { kernels.add(attention[head], rows[row], count) }
      start = chunk.upperBound
    }
  }
}

/// The mean of a token's keys over its heads and patches, of length 1.
private struct TokenKeys: ParallelBody {
  let operations: Operations
  let cache: LayerCache
  let shape: ZipShape
  let metric: Rows

  func run(task token: Int, thread: Int) {
    let row = metric[token]
    row.update(repeating: 0, count: metric.dim)
    for head in 0..<cache.headCount {
      let keys = cache.head(head).keys.assumingMemoryBound(to: Float.self)
      for part in 0..<shape.patchesPerToken {
        operations.kernels.add(row, keys + shape.row(token, part) * metric.dim, metric.dim)
      }
    }
    var square: Float = 0
    for i in 0..<metric.dim { square += row[i] * row[i] }
    let scale = square > 0 ? 1 / square.squareRoot() : 0
    for i in 0..<metric.dim { row[i] *= scale }
  }
}

private struct Assigning: ParallelBody {
  let zip: VisionZip

  func run(task token: Int, thread: Int) {
    if zip.targets[token] == TokenMarks.rest { zip.order[token] = zip.nearestTarget(token) }
  }
}

private struct Merging: ParallelBody {
  let zip: VisionZip
  let features: Rows
  let out: Rows

  func run(task: Int, thread: Int) { zip.merge(task, features, out) }
}
