import CPIOKernels
import PIOThreads

/// What a query row may see: the rows up to its own, or all.
enum Visibility {
  /// Row t sees `first + t + 1` rows of the cache.
  case causal(first: Int)
  case all(count: Int)
}

/// How an encoder's products of queries, keys and values are computed.
enum EncoderAttention {
  case float
  /// Whole numbers of 11 to 15 bits, where the processor is faster at them; the bound is `pio_attention_all`'s.
  case whole

  /// Beside weights that are multiplied in 8 bits, attention need not be finer than `whole`.
  init(beside weight: Linear, _ operations: Operations, headDim: Int) {
    let fits = headDim % 2 == 0 && headDim <= Int(PIO_ALL_DIM)
    self = fits && operations.multipliesIntegers(weight) ? .whole : .float
  }
}

/// Keys of a decoded row's past that are one task, whatever the thread count: so it changes no bit of the result.
let keysPerPart = 512

extension Operations {
  /// Puts the rows' keys and values behind each other into the cache, from row `first` on.
  ///
  /// Shapes: `keys`, `values` are `(n, kvHeads · headDim)`.
  func store(_ keys: Rows, _ values: Rows, in cache: LayerCache, at first: Int) {
    precondition(first + keys.count <= cache.capacity, "store: the cache is full")
    forEachRow(keys.count, .store(keys: keys, values: values, cache, first: first))
  }

  /// `softmax(q Kᵀ / √headDim) V` for every query head, in place of the queries.
  ///
  /// Shapes: `query` is `(n, queryHeads · headDim)`; the query heads of one KV head are neighbours.
  /// Source: Vaswani et al. 2017, arXiv:1706.03762; grouped heads: Ainslie et al. 2023, arXiv:2305.13245.
  /// Where the cache has a window, a row sees what lies in it alone. Source: Jiang et al. 2023, arXiv:2310.06825.
  func attend(_ query: Rows, _ cache: LayerCache, _ visibility: Visibility) {
    guard case .causal(let before) = visibility else {
      return attendToFirst(query, cache, visibility)
    }
    let last = before + query.count - 1
    let first = cache.firstVisible(fromRow: last)
    if query.count == 1, first > 0 || last >= keysPerPart {
      return attendInParts(query, cache, first..<(last + 1))
    }
    if first == 0 { return attendToFirst(query, cache, visibility) }
    // Windows slide on: from some row on none sees the first rows; those before it see all.
    var fullCount = 0
    while cache.firstVisible(fromRow: before + fullCount) == 0 { fullCount += 1 }
    if fullCount > 0 { attendToFirst(query.rows(0..<fullCount), cache, visibility) }
    let rest = query.rows(fullCount..<query.count)
    let work = AttendingInWindow(
      operations: self, query: rest, cache: cache, before: before + fullCount)
    precondition(pool.threadCount * work.stride <= attentionParts.count, "attend: parts")
    pool.run(rest.count * cache.headCount, work)
  }

  /// `attend` in an encoder, where every row sees the first `count` of the cache, whose kind is f32.
  func attendToAll(
    _ query: Rows, _ cache: LayerCache, count: Int, _ arithmetic: EncoderAttention
  ) {
    guard arithmetic == .whole else { return attendToFirst(query, cache, .all(count: count)) }
    precondition(cache.kind == .f32, "attendToAll: kind")
    precondition(
      pio_attention_all_scratch(cache.headDim) <= attentionFloats, "attendToAll: scratch")
    let tiles = (query.count + AttendingToAll.rowsPerTask - 1) / AttendingToAll.rowsPerTask
    pool.run(
      tiles * cache.headCount,
      AttendingToAll(operations: self, query: query, cache: cache, count: count))
  }

  /// Every row sees the cache's first one.
  private func attendToFirst(_ query: Rows, _ cache: LayerCache, _ visibility: Visibility) {
    let rowsPerTask = min(query.count, 32)
    let tiles = (query.count + rowsPerTask - 1) / rowsPerTask
    pool.run(
      tiles * cache.headCount,
      Attending(
        operations: self, query: query, cache: cache, visibility: visibility, tiles: tiles,
        rowsPerTask: rowsPerTask))
  }
}

extension Operations {
  /// One row: every KV head's keys in parts that threads share, put together behind.
  private func attendInParts(_ query: Rows, _ cache: LayerCache, _ keys: Range<Int>) {
    let parts = (keys.count + keysPerPart - 1) / keysPerPart
    let work = AttendingInParts(
      operations: self, query: query, cache: cache, keys: keys, parts: parts)
    precondition(cache.headCount * parts * work.stride <= attentionParts.count, "attend: parts")
    pool.run(cache.headCount * parts, work)
    for head in 0..<cache.headCount {
      pio_attention_merge(
        query.base + head * work.heads * cache.headDim, work.part(head, 0), work.stride, parts,
        work.heads, cache.headDim)
    }
  }
}

/// Parts of one query row's keys, for all query heads of one KV head.
private struct AttendingInParts: ParallelBody {
  let operations: Operations
  let query: Rows
  let cache: LayerCache
  let keys: Range<Int>
  let parts: Int

  /// Query heads of a KV head.
  var heads: Int { query.dim / (cache.headCount * cache.headDim) }
  /// Floats of one part.
  var stride: Int { heads * (cache.headDim + 2) }

  func part(_ head: Int, _ part: Int) -> UnsafeMutablePointer<Float> {
    operations.attentionParts.baseAddress! + (head * parts + part) * stride
  }

  func run(task: Int, thread: Int) {
    let (head, index) = task.quotientAndRemainder(dividingBy: parts)
    let begin = keys.lowerBound + index * keysPerPart
    var view = cache.head(head)
    operations.kernels.attention_part(
      part(head, index), query.base + head * heads * cache.headDim, &view, heads, begin,
      min(keys.upperBound, begin + keysPerPart), 1 / Float(cache.headDim).squareRoot(),
      operations.attentionScratch + thread * operations.attentionFloats)
  }
}

/// One query row at a time for the query heads of one KV head, over the keys of its window.
private struct AttendingInWindow: ParallelBody {
  let operations: Operations
  let query: Rows
  let cache: LayerCache
  let before: Int

  var heads: Int { query.dim / (cache.headCount * cache.headDim) }
  var stride: Int { heads * (cache.headDim + 2) }

  func run(task: Int, thread: Int) {
    let (row, head) = task.quotientAndRemainder(dividingBy: cache.headCount)
    let part = operations.attentionParts.baseAddress! + thread * stride
    let q = query[row] + head * heads * cache.headDim
    let end = before + row + 1
    var view = cache.head(head)
    operations.kernels.attention_part(
      part, q, &view, heads, cache.firstVisible(fromRow: end - 1), end,
      1 / Float(cache.headDim).squareRoot(),
      operations.attentionScratch + thread * operations.attentionFloats)
    pio_attention_merge(q, part, stride, 1, heads, cache.headDim)
  }
}

extension LayerCache {
  /// The first row that one in the cache sees.
  func firstVisible(fromRow row: Int) -> Int {
    positions.map { firstVisible(from: $0[row], before: row + 1) } ?? 0
  }
}

/// Tiles of query rows, one KV head at a time.
private struct Attending: ParallelBody {
  let operations: Operations
  let query: Rows
  let cache: LayerCache
  let visibility: Visibility
  let tiles: Int
  let rowsPerTask: Int

  func run(task: Int, thread: Int) {
    // Tiles outermost and from the last, which sees most: the long tasks start first.
    let tile = tiles - 1 - task / cache.headCount
    let head = task % cache.headCount
    let heads = query.dim / (cache.headCount * cache.headDim)
    let first = tile * rowsPerTask
    let q = query[first] + head * heads * cache.headDim
    var view = cache.head(head)
    let (visible, step): (Int, Int) =
      switch visibility {
      case .causal(let before): (before + first + 1, 1)
      case .all(let count): (count, 0)
      }
    operations.kernels.attention(
      q, query.dim, q, query.dim, &view, min(rowsPerTask, query.count - first), heads, visible,
      step, 1 / Float(cache.headDim).squareRoot(),
      operations.attentionScratch + thread * operations.attentionFloats)
  }
}

/// Tiles of an encoder's query rows, one head at a time.
private struct AttendingToAll: ParallelBody {
  static let rowsPerTask = Int(PIO_ALL_ROWS)

  let operations: Operations
  let query: Rows
  let cache: LayerCache
  let count: Int

  func run(task: Int, thread: Int) {
    let (tile, head) = task.quotientAndRemainder(dividingBy: cache.headCount)
    let first = tile * Self.rowsPerTask
    let q = query[first] + head * cache.headDim
    var view = cache.head(head)
    operations.kernels.attention_all(
      q, query.dim, q, query.dim, &view, min(Self.rowsPerTask, query.count - first), count,
      1 / Float(cache.headDim).squareRoot(),
      operations.attentionScratch + thread * operations.attentionFloats)
  }
}
