import PIOFormat

/// Most rows whose predictions make the loss.
let maxProxyRows = 4

/// What a stage needs beside the decoder's own buffers. `P` is `maxProxyRows`, `H` the number of query heads.
struct SaliencyRegions: Equatable, Sendable {
  /// `(promptRows, keyDim)`: the probed block's values.
  let values: Region<Float>
  /// `(H · P, promptRows)`: attention of the proxy rows.
  let weights: Region<Float>
  /// `(H · P, chunkRows)`: derivatives by the scores of one chunk.
  let slopes: Region<Float>
  /// `(chunkRows, dim)`: a chunk behind the norm, later its derivative.
  let normed: Region<Float>
  /// `(chunkRows, keyDim)`: a chunk's keys, later their derivative; where keys have a norm of their own as many rows more,
  /// for what is in front of it.
  let key: Region<Float>
  /// `(H · P, dim)`: derivatives by the attended values, projected back through the value weights.
  let projected: Region<Float>
  /// `(H · P, headDim)` each: queries, attended values and the derivatives by these, head by head.
  let heads: Region<Float>
  /// `(P, dim)` each: behind the norm, behind attention, behind the block, two derivatives.
  let rows: Region<Float>
  /// `(P, queryDim)`.
  let query: Region<Float>
  /// `(P, hiddenDim)` each: gate, up, and their product.
  let inner: Region<Float>
  /// What each part of the head adds up, `HeadLoss`.
  let headSums: Region<Float>
  let headLogits: Region<Float>
  let headMaxima: Region<HeadMaximum>

  /// Nil where no way to prune that is planned for computes with a block.
  init?(
    _ layout: inout Layout, _ text: TextConfig, limits: Limits, promptRows: Int, chunkRows: Int
  ) {
    let readsBlock = limits.prunings.contains { $0.prunes && $0.method.readsBlock }
    guard readsBlock && promptRows > limits.contextRows else { return nil }
    self.init(&layout, text, promptRows: promptRows, chunkRows: chunkRows)
  }

  init(_ layout: inout Layout, _ text: TextConfig, promptRows: Int, chunkRows: Int) {
    let proxies = maxProxyRows
    let keyDim = text.kvHeadCount * text.headDim
    let pairs = text.headCount * proxies
    values = layout.reserve(promptRows * keyDim)
    weights = layout.reserve(pairs * promptRows)
    slopes = layout.reserve(pairs * chunkRows)
    normed = layout.reserve(chunkRows * text.dim)
    key = layout.reserve((text.queryKeyNorm ? 2 : 1) * chunkRows * keyDim)
    projected = layout.reserve(pairs * text.dim)
    heads = layout.reserve(3 * pairs * text.headDim)
    rows = layout.reserve(5 * proxies * text.dim)
    query = layout.reserve(proxies * text.headCount * text.headDim)
    inner = layout.reserve(3 * proxies * text.hiddenDim)
    let parts = HeadLoss.partCount * proxies
    headSums = layout.reserve(2 * parts * text.dim)
    headLogits = layout.reserve(parts * HeadLoss.maxChunkRows)
    headMaxima = layout.reserve(parts)
  }
}
