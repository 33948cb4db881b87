import CPIOKernels
import PIOFormat

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
  var pruner: Pruner
  /// Each row's position behind the first one's.
  private let offsets: UnsafeMutablePointer<Int32>
  private let rotations: Rotations
  private let logits: UnsafeMutableBufferPointer<Float>
  private let scratch: Scratch

  private struct Scratch {
    let normed, query, key, value, gate, up: Rows
  }

  init(
    config: TextConfig, weights: TextWeights, stream: WeightStream, operations: Operations,
    plan: ArenaLayout, arena: borrowing Arena
  ) {
    self.config = config
    self.weights = weights
    self.stream = stream
    self.operations = operations
    chunkRows = plan.chunkRows
    hidden = Rows(base: arena.pointer(plan.prompt.hidden), count: plan.promptRows, dim: config.dim)
    pruner = Pruner(
      config: config, weights: weights, stream: stream, operations: operations, plan: plan,
      arena: arena)
    offsets = arena.pointer(plan.prompt.offsets)
    rotations = Rotations(
      cosines: arena.pointer(plan.prompt.cosines), sines: arena.pointer(plan.prompt.sines),
      headDim: config.headDim)
    logits = arena.buffer(plan.slot.logits)
    let rows = plan.chunkRows
    let regions = plan.decoder
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
  /// The rows stand at the positions behind each layer's last one. `schedule` says where rows of `visual` are dropped;
  /// the layers behind have fewer rows. Appends every layer's rows to its cache. Allocates nothing. Throws where weights
  /// cannot be read; what the cache holds means nothing then.
  func forward(
    _ count: Int, _ cache: inout KVArena, schedule: Schedule = .none, visual: VisualRows? = nil
  ) throws(RuntimeError) -> UnsafeMutableBufferPointer<Float> {
    precondition(count > 0 && count <= hidden.count, "forward: row count")
    let isCompact = pruner.pruning.positions == .compact
    var span = count
    if let visual, visual.isReduced, !isCompact {
      span = visual.place(count, into: offsets)
    } else {
      for row in 0..<count { offsets[row] = Int32(row) }
    }
    var left = count
    var stages = schedule.stages[...]
    var rotatedFor: Int32?
    for layer in 0..<config.layerCount {
      try stream.acquire(stream.layer(layer))
      while let stage = stages.first, let visual, stage.afterLayer <= layer {
        if pruner.readsRotations { computeRotations(left, from: cache.layers[layer].nextPosition) }
        let input = stageInput(layer, stage, cache, visual, of: left)
        left = try prune(left, to: stage.keep, visual, input)
        stages = stages.dropFirst()
        rotatedFor = nil
      }
      let position = cache.layers[layer].nextPosition
      if rotatedFor != position {
        computeRotations(left, from: position)
        rotatedFor = position
      }
      let first = cache.claim(
        left, span: isCompact ? left : span, layer: layer, offsets: offsets)
      // Behind the last layer only the last row is read.
      let needed = layer + 1 < config.layerCount ? 0 : left - 1
      var start = 0
      while start < left {
        let rows = start..<min(left, start + chunkRows)
        block(
          weights.layers[layer], cache.layers[layer], rows: rows, needed: needed, at: first + start)
        start = rows.upperBound
      }
      // A stage behind this block that looks at it once more runs while its weights are at hand.
      while let stage = stages.first, let visual, stage.afterLayer == layer + 1,
        pruner.runsBehindBlock(afterLayer: stage.afterLayer)
      {
        let input = stageInput(layer, stage, cache, visual, of: left)
        left = try prune(left, to: stage.keep, visual, input)
        stages = stages.dropFirst()
        rotatedFor = nil
      }
      stream.release(stream.layer(layer))
    }
    return try head(hidden.rows((left - 1)..<left))
  }

  /// What a stage sees that runs with the weights of block `layer`, before it or behind it.
  private func stageInput(
    _ layer: Int, _ stage: Schedule.Stage, _ cache: borrowing KVArena, _ visual: VisualRows,
    of count: Int
  ) -> StageInput {
    let hasRun = layer < stage.afterLayer
    let probed = cache.layers[layer]
    return StageInput(
      afterLayer: stage.afterLayer,
      probe: Probe(
        weights: weights.layers[layer], cache: probed,
        earlierRows: hasRun ? probed.count - count : probed.count,
        hidden: hidden.rows(0..<count), rotations: rotations, offsets: offsets,
        proxies: pruner.proxies(visual, of: count)),
      previous: stage.afterLayer > 0 ? cache.layers[stage.afterLayer - 1] : nil)
  }

  /// Drops visual rows until `keep` are left, and closes the gaps. Returns how many rows there are.
  private func prune(_ count: Int, to keep: Int, _ visual: VisualRows, _ input: StageInput)
    throws(RuntimeError) -> Int
  {
    let left = try pruner.choose(keep, visual, input)
    for row in 0..<left {
      let from = Int(pruner.kept[row])
      if from != row { hidden[row].update(from: hidden[from], count: config.dim) }
      offsets[row] = pruner.pruning.positions == .compact ? Int32(row) : offsets[from]
    }
    return left
  }

  /// One layer on one chunk: attention over everything cached so far, then the gated MLP.
  private func block(
    _ weights: DecoderLayerWeights, _ cache: LayerCache, rows: Range<Int>, needed: Int,
    at cacheRow: Int
  ) {
    let x = hidden.rows(rows)
    let normed = scratch.normed.rows(0..<rows.count)
    let key = scratch.key.rows(0..<rows.count)
    let value = scratch.value.rows(0..<rows.count)
    norm(x, weights.attentionNorm, into: normed)
    let kept = min(rows.count, max(0, needed - rows.lowerBound))..<rows.count
    let residual = x.rows(kept)
    let query = scratch.query.rows(0..<kept.count)
    var input = LinearInput(normed)
    if kept.count == rows.count {
      operations.linear(
        &input, Product(weights.query, query), Product(weights.key, key),
        Product(weights.value, value))
    } else {
      operations.linear(&input, Product(weights.key, key), Product(weights.value, value))
    }
    rotate(key, from: rows.lowerBound)
    operations.store(key, value, in: cache, at: cacheRow)
    guard !kept.isEmpty else { return }

    if kept.count < rows.count {
      input = LinearInput(normed.rows(kept))
      operations.linear(&input, weights.query, query)
    }
    rotate(query, from: rows.lowerBound + kept.lowerBound)
    if pruner.readsLastQuery {
      pruner.lastQuery[0].update(from: query[query.count - 1], count: query.dim)
    }
    operations.attend(query, cache, .causal(first: cacheRow + kept.lowerBound))
    var attended = LinearInput(query)
    operations.linear(&attended, weights.output, residual, accumulate: true)
    mlp(weights, residual)
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
        rotations, frequencies: weights.inverseFrequencies, offsets: offsets, first: first,
        factor: config.ropeAttentionFactor))
  }

  private func rotate(_ x: Rows, from firstRow: Int) {
    operations.forEachRow(x.count, .rotate(x, rotations, firstRow: firstRow))
  }
}
