import CPIOKernels
import PIOFormat

/// The layers of a vision transformer, with norms in front of attention and MLP, where every row attends to every other:
/// what towers have in common.
///
/// Rows are embedded into `hidden` and come out of it. The buffers are the plan's.
/// Source: Dosovitskiy et al. 2020, arXiv:2010.11929.
struct VisionTransformer {
  /// `(rows, dim)`.
  let hidden: Rows
  /// `(rows, dim)`; free once the layers are done.
  let query: Rows
  /// `(chunkRows, dim)`; free between layers.
  let normed: Rows
  let chunkRows: Int
  private let hiddenDim: Int
  private let epsilon: Float
  private let activation: Activation
  private let weights: [VisionLayerWeights]
  private let stream: WeightStream
  private let operations: Operations
  private let cache: LayerCache
  private let key: Rows
  private let value: Rows
  private let inner: Rows

  init(
    _ config: some VisionTransformerConfig, _ regions: TowerRegions, _ parts: VisionParts,
    arena: borrowing Arena
  ) {
    weights = parts.binding.visionLayers(config.layerCount)
    stream = parts.stream
    operations = parts.operations
    chunkRows = regions.chunkRows
    (hiddenDim, epsilon) = (config.hiddenDim, config.layerNormEpsilon)
    activation = config.activation
    let (rows, dim) = (config.positionCount, config.dim)
    hidden = Rows(base: arena.pointer(regions.hidden), count: rows, dim: dim)
    query = Rows(base: arena.pointer(regions.query), count: rows, dim: dim)
    cache = LayerCache(
      base: UnsafeMutableRawPointer(arena.pointer(regions.keyValue)), kind: .f32,
      headCount: config.headCount, headDim: config.headDim, capacity: rows)
    normed = Rows(base: arena.pointer(regions.normed), count: chunkRows, dim: dim)
    key = Rows(base: arena.pointer(regions.key), count: chunkRows, dim: dim)
    value = Rows(base: arena.pointer(regions.value), count: chunkRows, dim: dim)
    inner = Rows(
      base: arena.pointer(regions.inner), count: chunkRows, dim: regions.inner.count / chunkRows)
  }

  /// Units of weights in front of the connector's: the embedding and the layers.
  var unitCount: Int { weights.count + 1 }

  /// Runs all layers. With a score, `zip` ranks the patches in the last of them; returns the milliseconds that it took.
  ///
  /// Allocates nothing. Throws where weights cannot be read, or when the work is cancelled.
  func run(
    observing score: PatchScore? = nil, by zip: VisionZip? = nil, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Double {
    var milliseconds = 0.0
    for (index, layer) in weights.enumerated() {
      try cancellation.check()
      try stream.acquire(index + 1)
      forEachChunk(hidden.count, chunkRows) { rows in project(layer, rows) }
      if let score, let zip, index + 1 == weights.count {
        let start = ProcessStatus.monotonicMilliseconds
        zip.observe(query, cache, score: score)
        milliseconds = ProcessStatus.monotonicMilliseconds - start
      }
      attend(layer)
      stream.release(index + 1)
    }
    return milliseconds
  }

  /// Queries, keys and values of a chunk.
  private func project(_ weights: VisionLayerWeights, _ rows: Range<Int>) {
    let normed = normed.rows(0..<rows.count)
    let key = key.rows(0..<rows.count)
    let value = value.rows(0..<rows.count)
    norm(hidden.rows(rows), weights.attentionNorm, into: normed)
    var input = LinearInput(normed)
    operations.linear(&input, weights.query, query.rows(rows))
    operations.linear(&input, weights.key, key)
    operations.linear(&input, weights.value, value)
    operations.store(key, value, in: cache, at: rows.lowerBound)
  }

  private func attend(_ weights: VisionLayerWeights) {
    operations.attendToAll(
      query, cache, count: hidden.count,
      EncoderAttention(beside: weights.query, operations, headDim: cache.headDim))
    forEachChunk(hidden.count, chunkRows) { rows in
      let x = hidden.rows(rows)
      var attended = LinearInput(query.rows(rows))
      operations.linear(&attended, weights.output, x, accumulate: true)
      mlp(weights, x)
    }
  }

  private func mlp(_ weights: VisionLayerWeights, _ x: Rows) {
    let normed = normed.rows(0..<x.count)
    norm(x, weights.mlpNorm, into: normed)
    let inner = inner.reshaped(count: x.count, dim: hiddenDim)
    var input = LinearInput(normed)
    operations.linear(&input, weights.up, inner)
    operations.activate(inner, activation)
    var activated = LinearInput(inner)
    operations.linear(&activated, weights.down, x, accumulate: true)
  }

  func norm(_ x: Rows, _ weights: LayerNormWeights, into out: Rows) {
    operations.layerNorm(x, weights, epsilon: epsilon, into: out)
  }
}

/// Calls `body` with ranges of at most `chunkRows` rows.
func forEachChunk(_ count: Int, _ chunkRows: Int, _ body: (Range<Int>) -> Void) {
  var start = 0
  while start < count {
    let end = min(count, start + chunkRows)
    body(start..<end)
    start = end
  }
}

/// A tower's part of the arena.
struct TowerRegions: Equatable, Sendable {
  let hidden: Region<Float>
  /// Read by the tower's first step alone: the others share its bytes.
  let patches: Region<Float>
  let query: Region<Float>
  let keyValue: Region<Float>
  let normed: Region<Float>
  let key: Region<Float>
  let value: Region<Float>
  /// `(chunkRows, widest of the MLP and the connector behind the tower)`.
  let inner: Region<Float>
  /// Nil where the encoder hands over every row.
  let zip: ZipRegions?
  let chunkRows: Int
  /// Where everything ends, also the patches.
  let end: Int

  /// `zip`: what the tokens are chosen from. `image` lays out what is needed until the patches are prepared. Returns where that
  /// ends, too.
  static func reserve(
    _ layout: inout Layout, _ config: some VisionTransformerConfig, zip: ZipShape,
    connectorDim: Int, limits: Limits, chunkRows: Int, image: (inout Layout) -> Void
  ) -> (regions: TowerRegions, imageEnd: Int) {
    let rows = config.positionCount
    let chunk = min(rows, chunkRows)
    let hidden: Region<Float> = layout.reserve(rows * config.dim)
    let mark = layout.end
    let patches: Region<Float> = layout.reserve(
      config.patchCount * 3 * config.patchSize * config.patchSize)
    image(&layout)
    let imageEnd = layout.end
    // The image is decoded and resized before the first layer needs its buffers.
    layout.rewind(to: mark)
    let regions = TowerRegions(
      hidden: hidden, patches: patches, query: layout.reserve(rows * config.dim),
      keyValue: layout.reserve(2 * rows * config.dim), normed: layout.reserve(chunk * config.dim),
      key: layout.reserve(chunk * config.dim), value: layout.reserve(chunk * config.dim),
      inner: layout.reserve(chunk * max(config.hiddenDim, connectorDim)),
      zip: limits.prunings.contains { $0.prunes && $0.method.zips }
        ? ZipRegions(&layout, zip, threadCount: limits.threadCount) : nil,
      chunkRows: chunk, end: max(layout.end, patches.offset + patches.byteCount))
    return (regions, imageEnd)
  }
}

struct VisionLayerWeights {
  let attentionNorm: LayerNormWeights
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  let mlpNorm: LayerNormWeights
  let up: Linear
  let down: Linear
}

extension Binding {
  fileprivate func visionLayers(_ count: Int) -> [VisionLayerWeights] {
    (0..<count).map(visionLayer)
  }

  private func visionLayer(_ index: Int) -> VisionLayerWeights {
    let name = "vision.layers.\(index)"
    return VisionLayerWeights(
      attentionNorm: layerNorm(name + ".attention_norm"),
      query: linear(name + ".attention.query"),
      key: linear(name + ".attention.key"),
      value: linear(name + ".attention.value"),
      output: linear(name + ".attention.output"),
      mlpNorm: layerNorm(name + ".mlp_norm"),
      up: linear(name + ".mlp.up"),
      down: linear(name + ".mlp.down"))
  }
}
