import CPIOKernels
import PIOFormat

/// The visual rows of a prompt, and what becomes of them on their way through the layers.
struct VisualRoute {
  let rows: VisualRows
  let schedule: Schedule
  let pruning: Pruning
}

/// The Llama decoder: rows of embeddings in, logits of the last row out.
///
/// A layer runs for all rows before the next one begins, in chunks whose scratch the plan has fixed: each layer's
/// weights are read once for a whole prompt. One row is a decode step; there is no second graph.
/// Source: Touvron et al. 2023, arXiv:2302.13971.
struct Decoder {
  let config: TextConfig
  let weights: TextWeights
  let stream: WeightStream
  let operations: Operations
  let chunkRows: Int
  /// `(promptRows, dim)`: the residual stream. Its first rows are the caller's to fill.
  let hidden: Rows
  let pruner: Pruner
  let deepstack: Deepstack
  private let places: RowPlaces
  private let rotations: Rotations
  let logits: UnsafeMutableBufferPointer<Float>
  private let scratch: Scratch

  private struct Scratch {
    let normed, query, key, value, gate, up: Rows
  }

  init(
    config: TextConfig, weights: TextWeights, stream: WeightStream, operations: Operations,
    layout: ArenaLayout, arena: borrowing Arena
  ) {
    self.config = config
    self.weights = weights
    self.stream = stream
    self.operations = operations
    chunkRows = layout.chunkRows
    hidden = Rows(
      base: arena.pointer(layout.prompt.hidden), count: layout.promptRows, dim: config.dim)
    pruner = Pruner(
      config: config, weights: weights, stream: stream, operations: operations, plan: layout,
      arena: arena)
    deepstack = Deepstack(layout.prompt, dim: config.dim, arena: arena)
    places = RowPlaces(config, layout.prompt, rows: layout.promptRows, arena: arena)
    rotations = Rotations(
      cosines: arena.pointer(layout.prompt.cosines), sines: arena.pointer(layout.prompt.sines),
      headDim: config.headDim)
    logits = arena.buffer(layout.slot.logits)
    let rows = layout.chunkRows
    let regions = layout.decoder
    let queryDim = config.headCount * config.headDim
    let keyDim = config.kvHeadCount * config.headDim
    scratch = Scratch(
      normed: Rows(base: arena.pointer(regions.normed), count: rows, dim: config.dim),
      query: Rows(base: arena.pointer(regions.query), count: rows, dim: queryDim),
      key: Rows(base: arena.pointer(regions.key), count: rows, dim: keyDim),
      value: Rows(base: arena.pointer(regions.value), count: rows, dim: keyDim),
      gate: Rows(base: arena.pointer(regions.gate), count: rows, dim: config.hiddenDim),
      up: Rows(base: arena.pointer(regions.up), count: rows, dim: config.hiddenDim))
  }

  /// Runs the first `count` rows of `hidden` through all layers and returns the logits `(vocabSize)` of the last.
  ///
  /// The rows stand at the positions behind each layer's last one. `route` says where visual rows are dropped; the
  /// layers behind have fewer rows. Appends every layer's rows to its cache. Allocates nothing. Throws where weights
  /// cannot be read, or when the work is cancelled: what the cache has taken since its last `commit` means nothing then.
  func forward(
    _ count: Int, _ cache: inout KVArena, _ route: VisualRoute? = nil,
    _ cancellation: Cancellation? = nil
  ) throws(RuntimeError) -> UnsafeMutableBufferPointer<Float> {
    precondition(count > 0 && count <= hidden.count, "forward: row count")
    let pruner = pruner(for: route)
    let isCompact = places.isOne && route?.pruning.positions == .compact
    let span = fillPlaces(count, route)
    var left = count
    var stages = (route?.schedule ?? .none).stages[...]
    var rotatedFor: Int32?
    for layer in 0..<config.layerCount {
      try cancellation.check()
      try stream.acquire(stream.layer(layer))
      while let stage = stages.first, let route, stage.afterLayer <= layer {
        if pruner.readsRotations { computeRotations(left, from: cache.layers[layer].nextPosition) }
        left = try prune(left, stage, route, pruner, stageInput(layer, stage, cache, route, left))
        stages = stages.dropFirst()
        rotatedFor = nil
      }
      let position = cache.layers[layer].nextPosition
      if rotatedFor != position {
        computeRotations(left, from: position)
        rotatedFor = position
      }
      let first = cache.claim(
        left, span: isCompact ? left : span, layer: layer, offsets: places.times)
      // Behind the last layer only the last row is read.
      let needed = layer + 1 < config.layerCount ? 0 : left - 1
      try chunks(layer, cache.layers[layer], left, needed, at: first, pruner, cancellation)
      if let route { deepstack.add(behind: layer, to: hidden, route.rows, operations) }
      // A stage behind this block that looks at it once more runs while its weights are at hand.
      while let stage = stages.first, let route, stage.afterLayer == layer + 1,
        pruner.runsBehindBlock(afterLayer: stage.afterLayer)
      {
        left = try prune(left, stage, route, pruner, stageInput(layer, stage, cache, route, left))
        stages = stages.dropFirst()
        rotatedFor = nil
      }
      stream.release(stream.layer(layer))
    }
    return try head(hidden.rows((left - 1)..<left))
  }

  private func pruner(for route: VisualRoute?) -> Pruner {
    var pruner = pruner
    if let route { pruner.pruning = route.pruning }
    return pruner
  }

  /// Each row's position behind the first one's. Returns how many positions the rows reach over.
  private func fillPlaces(_ count: Int, _ route: VisualRoute?) -> Int {
    if let route,
      !places.isOne || (route.rows.isReduced && route.pruning.positions == .original)
    {
      return route.rows.positions(count, into: places)
    }
    for row in 0..<count { places.set(row, Int32(row)) }
    return count
  }

  /// One layer on the first `count` rows, a chunk at a time.
  private func chunks(
    _ layer: Int, _ cache: LayerCache, _ count: Int, _ needed: Int, at first: Int,
    _ pruner: Pruner, _ cancellation: Cancellation?
  ) throws(RuntimeError) {
    var start = 0
    while start < count {
      if start > 0 { try cancellation.check() }
      let rows = start..<min(count, start + chunkRows)
      block(
        weights.layers[layer], cache, rows: rows, needed: needed, at: first + start,
        lastQuery: pruner.readsLastQuery ? pruner.lastQuery : nil)
      start = rows.upperBound
    }
  }

  /// What a stage sees that runs with the weights of block `layer`, before it or behind it.
  private func stageInput(
    _ layer: Int, _ stage: Schedule.Stage, _ cache: borrowing KVArena, _ route: VisualRoute,
    _ count: Int
  ) -> StageInput {
    let hasRun = layer < stage.afterLayer
    let probed = cache.layers[layer]
    return StageInput(
      afterLayer: stage.afterLayer,
      probe: Probe(
        weights: weights.layers[layer], cache: probed,
        earlierRows: hasRun ? probed.count - count : probed.count,
        hidden: hidden.rows(0..<count), rotations: rotations, offsets: places.times,
        proxies: pruner(for: route).proxies(route.rows, of: count)),
      previous: stage.afterLayer > 0 ? cache.layers[stage.afterLayer - 1] : nil)
  }

  /// Drops visual rows until as many are left as the stage keeps, and closes the gaps. Returns how many rows there are.
  private func prune(
    _ count: Int, _ stage: Schedule.Stage, _ route: VisualRoute, _ pruner: Pruner,
    _ input: StageInput
  ) throws(RuntimeError) -> Int {
    let left = try pruner.choose(stage.keep, route.rows, input)
    for row in 0..<left {
      let from = Int(pruner.kept[row])
      if from != row { hidden[row].update(from: hidden[from], count: config.dim) }
      if route.pruning.positions == .compact {
        places.set(row, Int32(row))
      } else {
        places.move(from, to: row)
      }
    }
    return left
  }

  /// One layer on one chunk: attention over everything cached so far, then the gated MLP.
  ///
  /// Rows below `needed` leave their keys and values alone; their own way ends here.
  private func block(
    _ weights: DecoderLayerWeights, _ cache: LayerCache, rows: Range<Int>, needed: Int,
    at cacheRow: Int, lastQuery: Rows?
  ) {
    let x = hidden.rows(rows)
    let kept = min(rows.count, max(0, needed - rows.lowerBound))..<rows.count
    let query = project(weights, x, kept, firstRow: rows.lowerBound, cache, at: cacheRow)
    guard !kept.isEmpty else { return }
    rotate(query, weights.queryNorm, from: rows.lowerBound + kept.lowerBound)
    if let lastQuery { lastQuery[0].update(from: query[query.count - 1], count: query.dim) }
    operations.attend(query, cache, .causal(first: cacheRow + kept.lowerBound))
    var attended = LinearInput(query)
    let residual = x.rows(kept)
    operations.linear(&attended, weights.output, residual, accumulate: true)
    mlp(weights, residual)
  }

  /// Stores the chunk's keys and values, and returns the queries of the rows in `kept`, not normed and rotated yet.
  private func project(
    _ weights: DecoderLayerWeights, _ x: Rows, _ kept: Range<Int>, firstRow: Int,
    _ cache: LayerCache, at cacheRow: Int
  ) -> Rows {
    let normed = scratch.normed.rows(0..<x.count)
    let key = scratch.key.rows(0..<x.count)
    let value = scratch.value.rows(0..<x.count)
    let query = scratch.query.rows(0..<kept.count)
    norm(x, weights.attentionNorm, into: normed)
    var input = LinearInput(normed)
    if kept.count == x.count {
      operations.linear(
        &input, Product(weights.query, query), Product(weights.key, key),
        Product(weights.value, value))
    } else {
      operations.linear(&input, Product(weights.key, key), Product(weights.value, value))
    }
    rotate(key, weights.keyNorm, from: firstRow)
    operations.store(key, value, in: cache, at: cacheRow)
    if !kept.isEmpty && kept.count < x.count {
      input = LinearInput(normed.rows(kept))
      operations.linear(&input, weights.query, query)
    }
    return query
  }

  /// `x += down(silu(gate(norm x)) · up(norm x))`. Source: Shazeer 2020, arXiv:2002.05202.
  private func mlp(_ weights: DecoderLayerWeights, _ x: Rows) {
    let normed = scratch.normed.rows(0..<x.count)
    let gate = scratch.gate.rows(0..<x.count)
    let up = scratch.up.rows(0..<x.count)
    norm(x, weights.mlpNorm, into: normed)
    var input = LinearInput(normed)
    operations.linear(&input, Product(weights.gate, gate), Product(weights.up, up))
    operations.forEachRow(x.count, .siluMul(gate: gate, up: up))
    var inner = LinearInput(gate)
    operations.linear(&inner, weights.down, x, accumulate: true)
  }

  /// Logits of one row, a block of the head's rows at a time.
  private func head(_ row: Rows) throws(RuntimeError) -> UnsafeMutableBufferPointer<Float> {
    let normed = scratch.normed.rows(0..<1)
    norm(row, weights.norm, into: normed)
    var input = LinearInput(normed)
    for (index, block) in stream.headBlocks.enumerated() {
      try stream.acquire(stream.headBlock(index))
      let out = Rows(
        base: logits.baseAddress! + block.rows.lowerBound, count: 1, dim: block.rows.count)
      operations.linear(&input, weights.head.rows(block.rows), out)
      stream.release(stream.headBlock(index))
    }
    return logits
  }

  private func norm(_ x: Rows, _ weight: UnsafePointer<Float>, into out: Rows) {
    operations.rmsNorm(x, weight, epsilon: config.rmsNormEpsilon, into: out)
  }

  /// Cosines and sines of every row's position, once for all layers that have the same.
  ///
  /// Source: Su et al. 2021, arXiv:2104.09864; the attention factor: Peng et al. 2023 (YaRN), arXiv:2309.00071.
  private func computeRotations(_ count: Int, from first: Int32) {
    operations.forEachRow(
      count,
      .angles(
        rotations, frequencies: weights.inverseFrequencies, places: places, first: first,
        factor: config.ropeAttentionFactor))
  }

  private func rotate(_ x: Rows, _ norm: HeadNorm?, from firstRow: Int) {
    operations.forEachRow(x.count, .rotate(x, norm, rotations, firstRow: firstRow))
  }
}
