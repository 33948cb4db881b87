import CPIOKernels
import PIOThreads

/// What a query row may see: the rows up to its own, or all.
enum Visibility {
  /// Row t sees `first + t + 1` rows of the cache.
  case causal(first: Int)
  case all(count: Int)
}

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
  func attend(_ query: Rows, _ cache: LayerCache, _ visibility: Visibility) {
    let rowsPerTask = min(query.count, 32)
    let tiles = (query.count + rowsPerTask - 1) / rowsPerTask
    pool.run(
      tiles * cache.headCount,
      Attending(
        operations: self, query: query, cache: cache, visibility: visibility, tiles: tiles,
        rowsPerTask: rowsPerTask))
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
