import CPIOKernels
import PIOFormat
import PIOThreads

/// The block that a stage's loss goes through, and the rows that enter it.
struct Probe {
  let weights: DecoderLayerWeights
  /// The block's cache; its first `earlierRows` are of earlier turns.
  let cache: LayerCache
  let earlierRows: Int
  /// `(n, dim)`: the residual stream in front of the block.
  let hidden: Rows
  /// The rows' angles in this block.
  let rotations: Rotations
  /// The rows' positions behind the first one's.
  let offsets: UnsafePointer<Int32>
  /// Rows whose predictions make the loss: at most `maxProxyRows`, behind every visual row.
  let proxies: Range<Int>

  /// The first row, of those of earlier turns and the probe's behind them, that one of the probe's sees.
  func firstVisible(from row: Int) -> Int {
    guard let window = cache.window, let positions = cache.positions else { return 0 }
    let base = earlierRows < cache.count ? positions[earlierRows] - offsets[0] : cache.nextPosition
    let position = base + offsets[row]
    let earlier = cache.firstVisible(from: position, before: earlierRows)
    guard earlier == earlierRows else { return earlier }
    var first = 0
    while base + offsets[first] <= position - window { first += 1 }
    return earlierRows + first
  }
}

/// How much a layer-local loss depends on each visual row, in closed form.
///
/// The rows H pass through one block, the final norm and the head. The loss is the mean cross-entropy of the proxy
/// rows against their own arg-max; the saliency of row j is `‖∂loss/∂H_j‖₂`. Only the proxy rows' outputs enter the
/// loss, and they are text: row j matters through its key and its value alone. With a the attention of proxy row p in
/// head h, q̃ and k̃ rotated, dO the derivative by the attended values:
///
///     c = ⟨dO, V_j⟩,  z = a (c − ⟨dO, O⟩) / √headDim,  dK̃_j = Σ z q̃,  dV_j = Σ a dO   (over p, and h of the KV head)
///     dX_j = W_kᵀ Rⱼᵀ dK̃_j + Σ a (W_vᵀ dO),  dH_j = the norm's derivative of dX_j
///
/// Where keys have a norm of their own, its derivative of Rⱼᵀ dK̃_j takes the place of that, for which the keys in front of
/// it are computed once more: a third product with as many rows.
/// W_vᵀ dO is one vector for each p and h, so that two products with as many rows as the prompt are left: keys and
/// values going forward, keys going back. Weights of any kind. Derivatives are in f32, but for the few proxy rows' own in
/// front of a product with quantized weights, which are rounded to 8 bits as activations are (`gemm_transposed_int8`): in the
/// demo that moves the rank correlation with f32 by less than 0.0001. Allocates nothing.
/// Source: PIO-FVLM, arXiv:2602.04657, whose code runs automatic differentiation over the whole block.
struct Saliency {
  let config: TextConfig
  let operations: Operations
  /// The final norm.
  let norm: UnsafePointer<Float>
  /// The head's part of the loss.
  let headLoss: HeadLoss
  /// Brings the head's blocks.
  let stream: WeightStream
  let chunkRows: Int
  private let promptRows: Int
  private let values: Rows
  private let weights: Rows
  private let slopes: Rows
  private let normed: Rows
  private let key: Rows
  private let projected: Rows
  private let heads: Rows
  private let rows: Rows
  private let query: Rows
  private let inner: Rows

  init(
    config: TextConfig, weights text: TextWeights, stream: WeightStream, operations: Operations,
    plan: ArenaLayout, regions: SaliencyRegions, arena: borrowing Arena
  ) {
    self.config = config
    self.operations = operations
    self.stream = stream
    norm = text.norm
    headLoss = HeadLoss(operations: operations, head: text.head, regions: regions, arena: arena)
    chunkRows = plan.chunkRows
    promptRows = plan.promptRows
    let keyDim = config.kvHeadCount * config.headDim
    let pairs = config.headCount * maxProxyRows
    values = Rows(base: arena.pointer(regions.values), count: plan.promptRows, dim: keyDim)
    weights = Rows(base: arena.pointer(regions.weights), count: pairs, dim: plan.promptRows)
    slopes = Rows(base: arena.pointer(regions.slopes), count: pairs, dim: plan.chunkRows)
    normed = Rows(base: arena.pointer(regions.normed), count: plan.chunkRows, dim: config.dim)
    key = Rows(
      base: arena.pointer(regions.key), count: regions.key.count / keyDim, dim: keyDim)
    projected = Rows(base: arena.pointer(regions.projected), count: pairs, dim: config.dim)
    heads = Rows(base: arena.pointer(regions.heads), count: 3 * pairs, dim: config.headDim)
    rows = Rows(base: arena.pointer(regions.rows), count: 5 * maxProxyRows, dim: config.dim)
    query = Rows(
      base: arena.pointer(regions.query), count: maxProxyRows,
      dim: config.headCount * config.headDim)
    inner = Rows(
      base: arena.pointer(regions.inner), count: 3 * maxProxyRows, dim: config.hiddenDim)
  }

  /// One stage's buffers, cut to the number of its proxy rows.
  private struct Scratch {
    let count: Int
    let normed, attended, output, slope, other: Rows
    let query: Rows
    let gate, up, product: Rows
    let heads: HeadRows
  }

  private func scratch(_ count: Int) -> Scratch {
    let pairs = config.headCount * count
    func part(_ rows: Rows, _ index: Int) -> Rows {
      rows.rows((index * maxProxyRows)..<(index * maxProxyRows + count))
    }
    return Scratch(
      count: count, normed: part(rows, 0), attended: part(rows, 1), output: part(rows, 2),
      slope: part(rows, 3), other: part(rows, 4), query: query.rows(0..<count),
      gate: part(inner, 0), up: part(inner, 1), product: part(inner, 2),
      heads: HeadRows(
        queries: heads.rows(0..<pairs), attended: heads.rows(pairs..<(2 * pairs)),
        slopes: heads.rows((2 * pairs)..<(3 * pairs)), proxyCount: count,
        groupCount: config.kvHeadCount))
  }

  /// Writes the saliency of the rows of `visual` to `out`, which has a place for every row of the probe.
  ///
  /// Returns the multiply-adds it took. Throws where the head's weights cannot be read.
  func compute(
    _ probe: Probe, _ visual: VisualRows, into out: UnsafeMutablePointer<Float>
  ) throws(RuntimeError) -> Int {
    precondition(
      !probe.proxies.isEmpty && probe.proxies.count <= maxProxyRows
        && probe.proxies.upperBound <= probe.hidden.count
        && probe.earlierRows + probe.hidden.count <= promptRows, "saliency: rows")
    let s = scratch(probe.proxies.count)
    attend(probe, s)
    predict(probe, s)
    try passHead(s)
    differentiate(probe, s)
    for image in 0..<visual.imageCount {
      var start = visual[image].lowerBound
      precondition(visual[image].upperBound <= probe.proxies.lowerBound, "saliency: a proxy row")
      while start < visual[image].upperBound {
        let chunk = start..<min(visual[image].upperBound, start + chunkRows)
        reach(probe, s, chunk, into: out)
        start = chunk.upperBound
      }
    }
    return macs(probe, s.count, visual.tokenCount)
  }

  /// The attention of the proxy rows, `(head · proxy, earlier rows, then the probe's)`.
  func attention(_ probe: Probe) -> Rows {
    let s = scratch(probe.proxies.count)
    score(probe, s)
    return weights.rows(0..<(config.headCount * s.count))
  }

  /// The attention that one row of rotated queries pays to all rows of a cache, `(head, row)`.
  func attention(of query: Rows, in cache: LayerCache) -> Rows {
    let s = scratch(1)
    gather(query, into: s.heads.queries, 1)
    // Every row counts as one of an earlier turn, so that nothing lies behind the query.
    let work = SaliencyWork(
      operations: operations, config: config, cache: cache, heads: s.heads, weights: weights)
    work.run(.earlierScores)
    work.run(.softmax)
    return weights.rows(0..<config.headCount)
  }

  // MARK: Forward

  /// Queries of the proxy rows, keys and values of all that they see; then softmax.
  private func score(_ probe: Probe, _ s: Scratch) {
    let block = probe.weights
    let work = work(probe, s)
    project(probe.hidden.rows(probe.proxies), block.attentionNorm, block.query, s.normed, s.query)
    rotate(s.query, block.queryNorm, probe.rotations, from: probe.proxies.lowerBound)
    gather(s.query, into: s.heads.queries, s.count)
    var start = 0
    while start < probe.proxies.upperBound {
      let chunk = start..<min(probe.proxies.upperBound, start + chunkRows)
      let (x, k) = (normed.rows(0..<chunk.count), key.rows(0..<chunk.count))
      operations.rmsNorm(
        probe.hidden.rows(chunk), block.attentionNorm, epsilon: config.rmsNormEpsilon, into: x)
      var input = LinearInput(x)
      operations.linear(&input, block.key, k)
      operations.linear(&input, block.value, values.rows(chunk))
      rotate(k, block.keyNorm, probe.rotations, from: chunk.lowerBound)
      work.run(.scores(k, first: chunk.lowerBound))
      start = chunk.upperBound
    }
    if probe.earlierRows > 0 { work.run(.earlierScores) }
    work.run(.softmax)
  }

  private func attend(_ probe: Probe, _ s: Scratch) {
    score(probe, s)
    work(probe, s).run(.attended)
    scatter(s.heads.attended, into: s.query, s.count)
    s.attended.update(from: probe.hidden.rows(probe.proxies))
    var attended = LinearInput(s.query)
    operations.linear(&attended, probe.weights.output, s.attended, accumulate: true)
  }

  /// The proxy rows through the MLP and the final norm.
  private func predict(_ probe: Probe, _ s: Scratch) {
    let block = probe.weights
    operations.rmsNorm(
      s.attended, block.mlpNorm, epsilon: config.rmsNormEpsilon, into: s.normed)
    var input = LinearInput(s.normed)
    operations.linear(&input, block.gate, s.gate)
    operations.linear(&input, block.up, s.up)
    s.product.update(from: s.gate)
    operations.forEachRow(s.count, .siluMul(gate: s.product, up: s.up))
    s.output.update(from: s.attended)
    var inner = LinearInput(s.product)
    operations.linear(&inner, block.down, s.output, accumulate: true)
    operations.rmsNorm(s.output, norm, epsilon: config.rmsNormEpsilon, into: s.normed)
  }

  /// To the loss and back in front of the final norm, by blocks of the head's rows.
  private func passHead(_ s: Scratch) throws(RuntimeError) {
    var input = LinearInput(s.normed)
    headLoss.begin()
    for (index, block) in stream.headBlocks.enumerated() {
      try stream.acquire(stream.headBlock(index), wraps: false)
      headLoss.add(block.rows, &input)
      stream.release(stream.headBlock(index))
    }
    headLoss.finish(s.slope)
  }

  // MARK: Backward

  /// From the loss to the derivatives by the attended values, head by head, and what these are in front of W_v.
  private func differentiate(_ probe: Probe, _ s: Scratch) {
    let block = probe.weights
    let work = work(probe, s)
    work.run(.normBack(s.slope, s.output, norm))
    operations.transposed(s.slope, block.down, s.product, quantized: true)
    work.run(.gateBack(s.gate, s.up, s.product))
    operations.transposed(s.gate, block.gate, s.other, quantized: true)
    operations.transposed(s.up, block.up, s.other, accumulate: true, quantized: true)
    work.run(.normBack(s.other, s.attended, block.mlpNorm))
    work.run(.add(s.slope, s.other))
    operations.transposed(s.slope, block.output, s.query, quantized: true)
    gather(s.query, into: s.heads.slopes, s.count)
    let pairs = s.heads.slopes.count
    // Many query heads to a KV head are many rows.
    operations.transposedBySlices(
      s.heads.slopes, block.value, projected.rows(0..<pairs), count: config.kvHeadCount,
      quantized: s.heads.rowsPerGroup <= maxProxyRows)
  }

  /// The derivatives of one chunk of visual rows, and their lengths.
  private func reach(
    _ probe: Probe, _ s: Scratch, _ chunk: Range<Int>, into out: UnsafeMutablePointer<Float>
  ) {
    let (dx, dk) = (normed.rows(0..<chunk.count), key.rows(0..<chunk.count))
    let work = work(probe, s)
    work.run(.keySlopes(dk, first: chunk.lowerBound))
    work.run(.rotateBack(dk, first: chunk.lowerBound))
    if let norm = probe.weights.keyNorm { passKeyNorm(dk, norm, probe, chunk, work, scratch: dx) }
    operations.transposed(dk, probe.weights.key, dx, quantized: false)
    work.run(.valueSlopes(dx, projected, first: chunk.lowerBound))
    work.run(.lengths(dx, first: chunk.lowerBound, out: out + chunk.lowerBound))
  }

  /// Back through the norm of each head's keys.
  private func passKeyNorm(
    _ dk: Rows, _ norm: HeadNorm, _ probe: Probe, _ chunk: Range<Int>, _ work: SaliencyWork,
    scratch: Rows
  ) {
    let keys = key.rows(chunkRows..<(chunkRows + chunk.count))
    project(
      probe.hidden.rows(chunk), probe.weights.attentionNorm, probe.weights.key, scratch, keys)
    work.run(.headNormBack(dk, keys, norm))
  }

  // MARK: Parts

  private func work(_ probe: Probe, _ s: Scratch) -> SaliencyWork {
    SaliencyWork(
      operations: operations, config: config, probe: probe, heads: s.heads, weights: weights,
      slopes: slopes, values: values)
  }

  private func project(
    _ x: Rows, _ weight: UnsafePointer<Float>, _ matrix: Linear, _ normed: Rows, _ out: Rows
  ) {
    operations.rmsNorm(x, weight, epsilon: config.rmsNormEpsilon, into: normed)
    var input = LinearInput(normed)
    operations.linear(&input, matrix, out)
  }

  private func rotate(_ x: Rows, _ norm: HeadNorm?, _ rotations: Rotations, from firstRow: Int) {
    operations.forEachRow(x.count, .rotate(x, norm, rotations, firstRow: firstRow))
  }

  /// `(proxy, head, headDim)` to `(head, proxy, headDim)`.
  private func gather(_ from: Rows, into to: Rows, _ count: Int) {
    for head in 0..<config.headCount {
      for proxy in 0..<count {
        to[head * count + proxy].update(
          from: from[proxy] + head * config.headDim, count: config.headDim)
      }
    }
  }

  private func scatter(_ from: Rows, into to: Rows, _ count: Int) {
    for head in 0..<config.headCount {
      for proxy in 0..<count {
        (to[proxy] + head * config.headDim).update(
          from: from[head * count + proxy], count: config.headDim)
      }
    }
  }

  /// Multiply-adds of the matrix products, of which the attention's own are the smallest part.
  private func macs(_ probe: Probe, _ proxies: Int, _ visualRows: Int) -> Int {
    Saliency.macs(
      config, rows: probe.proxies.upperBound, earlierRows: probe.earlierRows, proxies: proxies,
      visualRows: visualRows)
  }
}

extension Rows {
  /// Copies rows of the same shape.
  func update(from other: Rows) {
    precondition(count == other.count && dim == other.dim, "rows of another shape")
    base.update(from: other.base, count: count * dim)
  }
}
