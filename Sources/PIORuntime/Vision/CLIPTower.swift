import CPIOKernels
import PIOFormat

/// The CLIP vision transformer: an image's patches in, features of the last layer that is used out.
///
/// One input at a time goes through; the buffers are the plan's.
/// Source: Radford et al. 2021, arXiv:2103.00020.
struct CLIPTower {
  let config: CLIPConfig
  /// `(patchCount, 3 · patchSize²)`: where the input is prepared.
  let patches: Rows
  /// Reduces the features where the plan has room for it.
  let zip: VisionZip?
  private let weights: CLIPWeights
  private let stream: WeightStream
  private let operations: Operations
  private let chunkRows: Int
  /// `(positionCount, dim)`, row 0 the class token.
  private let hidden: Rows
  private let query: Rows
  private let cache: LayerCache
  private let normed: Rows
  private let key: Rows
  private let value: Rows
  private let inner: Rows

  init(
    _ config: CLIPConfig, _ weights: CLIPWeights, _ regions: CLIPRegions, _ parts: VisionParts,
    arena: borrowing Arena
  ) {
    self.config = config
    self.weights = weights
    stream = parts.stream
    operations = parts.operations
    chunkRows = regions.chunkRows
    let (rows, dim) = (config.positionCount, config.dim)
    patches = Rows(
      base: arena.pointer(regions.patches), count: config.patchCount,
      dim: 3 * config.patchSize * config.patchSize)
    hidden = Rows(base: arena.pointer(regions.hidden), count: rows, dim: dim)
    query = Rows(base: arena.pointer(regions.query), count: rows, dim: dim)
    cache = LayerCache(
      base: UnsafeMutableRawPointer(arena.pointer(regions.keyValue)), kind: .f32,
      headCount: config.headCount, headDim: config.headDim, capacity: rows)
    zip = regions.zip.map {
      VisionZip(config, operations: parts.operations, regions: $0, arena: arena)
    }
    normed = Rows(base: arena.pointer(regions.normed), count: chunkRows, dim: dim)
    key = Rows(base: arena.pointer(regions.key), count: chunkRows, dim: dim)
    value = Rows(base: arena.pointer(regions.value), count: chunkRows, dim: dim)
    inner = Rows(
      base: arena.pointer(regions.inner), count: chunkRows, dim: regions.inner.count / chunkRows)
  }

  var patchBuffer: UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(start: patches.base, count: patches.count * patches.dim)
  }

  /// Units of weights that the tower has, the first of the file's vision half.
  var unitCount: Int { weights.layers.count + 1 }

  /// Runs the tower on `patches` and returns the features of all rows, `(positionCount, dim)`.
  ///
  /// Allocates nothing. Throws where weights cannot be read, or when the work is cancelled.
  func features(_ cancellation: Cancellation?) throws(RuntimeError) -> Rows {
    try run(observing: nil, cancellation).features
  }

  /// The same, cut to what `request` asks for; `place` says which patches show the image. The milliseconds are those
  /// that choosing took.
  func features(
    _ request: ZipRequest, _ place: TilePlace, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> (features: Rows, milliseconds: Double) {
    guard let zip else { preconditionFailure("the plan has no room to reduce features") }
    let (all, milliseconds) = try run(observing: request.score, cancellation)
    let start = ProcessStatus.monotonicMilliseconds
    // The queries are used up.
    let features = zip.reduce(all, request, place, into: query)
    return (features, milliseconds + ProcessStatus.monotonicMilliseconds - start)
  }

  private func run(
    observing score: PatchScore?, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> (features: Rows, milliseconds: Double) {
    var milliseconds = 0.0
    try stream.acquire(0)
    embed()
    stream.release(0)
    for (index, layer) in weights.layers.enumerated() {
      try cancellation.check()
      try stream.acquire(index + 1)
      let isLast = index + 1 == weights.layers.count
      milliseconds += run(layer, observing: isLast ? score : nil)
      stream.release(index + 1)
    }
    return (hidden, milliseconds)
  }

  /// Patches, class token, positions and the norm before the first layer.
  private func embed() {
    forEachChunk(config.patchCount, chunkRows) { rows in
      var input = LinearInput(patches.rows(rows))
      let out = hidden.rows((rows.lowerBound + 1)..<(rows.upperBound + 1))
      operations.linear(&input, weights.patchEmbedding, out)
    }
    hidden[0].update(from: weights.classEmbedding, count: config.dim)
    operations.forEachRow(config.positionCount, .addTable(hidden, weights.positions))
    norm(hidden, weights.preNorm, into: hidden)
  }

  /// One layer; returns the milliseconds that ranking the patches took.
  private func run(_ weights: CLIPLayerWeights, observing score: PatchScore?) -> Double {
    var milliseconds = 0.0
    forEachChunk(hidden.count, chunkRows) { rows in project(weights, rows) }
    if let score, let zip {
      let start = ProcessStatus.monotonicMilliseconds
      zip.observe(query, cache, score: score)
      milliseconds = ProcessStatus.monotonicMilliseconds - start
    }
    operations.attend(query, cache, .all(count: hidden.count))
    forEachChunk(hidden.count, chunkRows) { rows in
      let x = hidden.rows(rows)
      var attended = LinearInput(query.rows(rows))
      operations.linear(&attended, weights.output, x, accumulate: true)
      mlp(weights, x)
    }
    return milliseconds
  }

  /// Queries, keys and values of a chunk.
  private func project(_ weights: CLIPLayerWeights, _ rows: Range<Int>) {
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

  private func mlp(_ weights: CLIPLayerWeights, _ x: Rows) {
    let normed = normed.rows(0..<x.count)
    norm(x, weights.mlpNorm, into: normed)
    let inner = inner.reshaped(count: x.count, dim: config.hiddenDim)
    var input = LinearInput(normed)
    operations.linear(&input, weights.up, inner)
    operations.activate(inner, config.activation)
    var activated = LinearInput(inner)
    operations.linear(&activated, weights.down, x, accumulate: true)
  }

  private func norm(_ x: Rows, _ weights: LayerNormWeights, into out: Rows) {
    operations.layerNorm(x, weights, epsilon: config.layerNormEpsilon, into: out)
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

/// The tower's part of the arena.
struct CLIPRegions: Equatable, Sendable {
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

  /// `image` lays out what is needed until the patches are prepared. Returns where that ends, too.
  static func reserve(
    _ layout: inout Layout, _ config: CLIPConfig, connectorDim: Int, limits: Limits,
    chunkRows: Int, image: (inout Layout) -> Void
  ) -> (regions: CLIPRegions, imageEnd: Int) {
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
    let regions = CLIPRegions(
      hidden: hidden, patches: patches, query: layout.reserve(rows * config.dim),
      keyValue: layout.reserve(2 * rows * config.dim), normed: layout.reserve(chunk * config.dim),
      key: layout.reserve(chunk * config.dim), value: layout.reserve(chunk * config.dim),
      inner: layout.reserve(chunk * max(config.hiddenDim, connectorDim)),
      zip: limits.prunings.contains { $0.prunes && $0.method.zips }
        ? ZipRegions(&layout, config, threadCount: limits.threadCount) : nil,
      chunkRows: chunk)
    return (regions, imageEnd)
  }
}

struct CLIPWeights {
  let patchEmbedding: Linear
  let classEmbedding: UnsafePointer<Float>
  let positions: UnsafePointer<Float>
  let preNorm: LayerNormWeights
  let layers: [CLIPLayerWeights]
}

struct CLIPLayerWeights {
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
  func clip(_ config: CLIPConfig) -> CLIPWeights {
    CLIPWeights(
      patchEmbedding: matrix("vision.patch_embedding.weight", bias: nil),
      classEmbedding: small("vision.class_embedding"),
      positions: small("vision.position_embedding"),
      preNorm: layerNorm("vision.pre_norm"),
      layers: (0..<config.layerCount).map(clipLayer))
  }

  private func clipLayer(_ index: Int) -> CLIPLayerWeights {
    let name = "vision.layers.\(index)"
    return CLIPLayerWeights(
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
