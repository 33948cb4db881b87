import CPIOKernels
import PIOFormat
import PIOVision

extension ImagePreparation {
  init(_ vision: VisionConfig) {
    let from = vision.preprocessing
    self.init(side: vision.imageSize, patchSize: vision.patchSize)
    fit = Fit(rawValue: from.fit.rawValue) ?? .crop
    filter = Filter(rawValue: from.filter.rawValue) ?? .bicubic
    resizeTo = from.resizeTo
    rescaleFactor = from.rescaleFactor
    mean = from.mean
    std = from.std
    padColor = from.padColor
  }
}

extension ImagePreprocessing {
  /// The same image made square in another way: at the encoder's size, padded with the mean colour.
  func with(fit: Fit, side: Int) -> ImagePreprocessing {
    guard fit != self.fit else { return self }
    func byte(_ mean: Float) -> UInt8 { UInt8(min(255, max(0, mean * 255))) }
    var changed = self
    changed.fit = fit
    changed.resizeTo = side
    changed.padColor = (byte(mean.0), byte(mean.1), byte(mean.2))
    return changed
  }
}

/// The CLIP vision transformer and the projector: an image's patches in, rows of the decoder out.
///
/// An image of several tiles is decoded once; its tiles go through the tower one after the other, in the same scratch.
/// Source: Radford et al. 2021, arXiv:2103.00020; the projector: Liu et al. 2023, arXiv:2310.03744.
struct VisionEncoder {
  let config: VisionConfig
  let weights: VisionWeights
  let stream: WeightStream
  let operations: Operations
  /// `(patchCount, 3 · patchSize²)`: where the image is prepared.
  private let patches: Rows
  private let imageScratch: UnsafeMutableRawBufferPointer
  private let preparation: ImagePreparation
  private let imageLimits: ImageLimits
  /// For images of several tiles.
  private let tiling: Tiling?
  private let chunkRows: Int
  private let hidden: Rows
  private let query: Rows
  private let cache: LayerCache
  let zip: VisionZip?
  private let scratch: Scratch

  private struct Scratch {
    let normed, key, value, inner: Rows
  }

  private struct Tiling {
    let resolutions: [PixelSize]
    let pixels: UnsafeMutableBufferPointer<UInt8>
    let levels: UnsafeMutablePointer<Float>
  }

  /// An image that is decoded and waits to be encoded.
  struct Loaded {
    let rows: ImageRows
    /// Nil: one tile, in `patches`.
    fileprivate let layout: TileLayout?
    var isTiled: Bool { layout != nil }
  }

  init?(
    _ model: ModelConfig, weights: VisionWeights?, stream: WeightStream, operations: Operations,
    memory: Plan, arena: borrowing Arena
  ) {
    let plan = memory.arena
    guard let config = model.vision, let weights, let regions = plan.vision else { return nil }
    self.config = config
    self.weights = weights
    self.stream = stream
    self.operations = operations
    preparation = ImagePreparation(config)
    imageLimits = plan.limits.image(codecBytes: memory.codecByteCount)
    tiling =
      config.isTiled
      ? Tiling(
        resolutions: config.tileResolutions, pixels: arena.buffer(regions.tiles),
        levels: arena.pointer(regions.levels)) : nil
    let rows = config.positionCount
    let dim = config.dim
    chunkRows = regions.chunkRows
    patches = Rows(
      base: arena.pointer(regions.patches), count: config.patchCount,
      dim: 3 * config.patchSize * config.patchSize)
    imageScratch = UnsafeMutableRawBufferPointer(arena.buffer(regions.image))
    hidden = Rows(base: arena.pointer(regions.hidden), count: rows, dim: dim)
    query = Rows(base: arena.pointer(regions.query), count: rows, dim: dim)
    cache = LayerCache(
      base: UnsafeMutableRawPointer(arena.pointer(regions.keyValue)), kind: .f32,
      headCount: config.headCount, headDim: config.headDim, capacity: rows)
    if let regions = regions.zip {
      zip = VisionZip(config, operations: operations, regions: regions, arena: arena)
    } else {
      zip = nil
    }
    scratch = Scratch(
      normed: Rows(base: arena.pointer(regions.normed), count: chunkRows, dim: dim),
      key: Rows(base: arena.pointer(regions.key), count: chunkRows, dim: dim),
      value: Rows(base: arena.pointer(regions.value), count: chunkRows, dim: dim),
      inner: Rows(
        base: arena.pointer(regions.inner), count: chunkRows,
        dim: max(config.hiddenDim, config.projectorHiddenDim)))
  }

  /// What an image will come to, from its header alone.
  func rows(ofImageAt path: String) throws(ImageError) -> ImageRows {
    guard let tiling else { return ImageRows(wholeCount: config.visualTokenCount) }
    let info = try OpenImage(path: path, limits: imageLimits).info
    let size = PixelSize(height: info.height, width: info.width)
    return rows(TileLayout(size, resolutions: tiling.resolutions, side: config.imageSize))
  }

  private func rows(_ layout: TileLayout) -> ImageRows {
    ImageRows(config, layout.patches(perSide: config.patchesPerSide))
  }

  /// Decodes an image and prepares it, into `patches` or into the pixels of its tiles.
  func load(_ path: String) throws(ImageError) -> Loaded {
    if let tiling {
      let layout = try prepareTiles(
        OpenImage(path: path, limits: imageLimits), preparation, resolutions: tiling.resolutions,
        scratch: imageScratch, into: tiling.pixels)
      return Loaded(rows: rows(layout), layout: layout)
    }
    try prepareImage(
      OpenImage(path: path, limits: imageLimits), preparation, scratch: imageScratch,
      into: patchBuffer)
    return Loaded(rows: ImageRows(wholeCount: config.visualTokenCount), layout: nil)
  }

  private var patchBuffer: UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(start: patches.base, count: patches.count * patches.dim)
  }

  /// Encodes the image that was loaded last into `out`, `(its row count, decoder's dim)`, or as few rows as `request`
  /// says. Returns the milliseconds that choosing took. Allocates nothing. Throws where weights cannot be read.
  func encode(
    _ image: Loaded, into out: Rows, _ request: ZipRequest? = nil
  ) throws(RuntimeError) -> Double {
    precondition(out.count == request?.count ?? image.rows.rowCount, "encode: row count")
    guard let layout = image.layout, let tiling else {
      return try encodePatches(request) { project($0, into: out) }
    }
    let whole = out.rows(0..<image.rows.wholeCount)
    let lines = out.rows(whole.count..<out.count)
    takePatches(of: 0, tiling)
    _ = try encodePatches { features in
      project(features, into: whole)
      endLines(lines, image.rows)
    }
    let grid = layout.patches(perSide: config.patchesPerSide)
    for tile in 1..<layout.tileCount {
      let place = TilePlace(tile, layout, grid, perSide: config.patchesPerSide)
      // Padding alone.
      if place.rows.isEmpty || place.columns.isEmpty { continue }
      takePatches(of: tile, tiling)
      _ = try encodePatches { features in
        project(features, place, into: lines, lineLength: grid.columns.count)
      }
    }
    return 0
  }

  /// The same of an image in several tiles, each of which hands over its share of the request's rows. `out` has room
  /// for every row that an image can come to; `origins` receives the rows' tokens. Calls `note` with each tile's
  /// choice. Returns how many rows there are, the ends of lines that have a token among them.
  func encodeReduced(
    _ image: Loaded, into out: Rows, _ request: ZipRequest,
    origins: UnsafeMutablePointer<Int32>, note: (VisionZip, TilePlace) -> Void
  ) throws(RuntimeError) -> (rowCount: Int, milliseconds: Double) {
    guard let layout = image.layout, let tiling, let zip else { return (0, 0) }
    let grid = layout.patches(perSide: config.patchesPerSide)
    func place(_ tile: Int) -> TilePlace {
      TilePlace(tile, layout, grid, perSide: config.patchesPerSide)
    }
    var shares = TileShares(request.count, tileCount: layout.tileCount) { place($0).patchCount }
    let order = TileOrder(keys: origins, image: image.rows)
    var done = 0
    var spent = 0.0
    for tile in 0..<layout.tileCount {
      let here = place(tile)
      let share = shares.next(here.patchCount)
      if share == 0 { continue }
      takePatches(of: tile, tiling)
      spent += try encodePatches(request.with(count: share), here) { features in
        project(features, into: out.rows(done..<(done + features.count)))
        if let newline = weights.newline {
          out[out.count - 1].update(from: newline, count: out.dim)
        }
        for row in 0..<features.count {
          let patch = Int(zip.order[row])
          order.note(patch < 0 ? nil : here.token(of: patch), isWhole: here.isWhole, at: done + row)
        }
        note(zip, here)
        done += features.count
      }
    }
    return (order.arrange(out, count: done), spent)
  }

  private func takePatches(of tile: Int, _ tiling: Tiling) {
    tilePatches(
      tile, of: tiling.pixels.baseAddress!, preparation, levels: tiling.levels, into: patchBuffer)
  }

  /// Runs the tower on `patches`, then `project` while the projector's weights are at hand, with the features of the
  /// rows that are some, or of as few as `request` says. Returns the milliseconds that choosing them took.
  private func encodePatches(
    _ request: ZipRequest? = nil, _ place: TilePlace? = nil, _ project: (Rows) -> Void
  ) throws(RuntimeError) -> Double {
    var spent = 0.0
    try stream.acquire(0)
    embed()
    stream.release(0)
    for (index, layer) in weights.layers.enumerated() {
      try stream.acquire(index + 1)
      let isLast = index + 1 == weights.layers.count
      spent += run(layer, observing: isLast ? request?.score : nil)
      stream.release(index + 1)
    }
    let features: Rows
    if let request, let zip {
      let start = ProcessStatus.monotonicMilliseconds
      // The queries are used up.
      features = zip.reduce(hidden, request, place, into: query)
      spent += ProcessStatus.monotonicMilliseconds - start
    } else {
      features = hidden.rows((config.dropsClassToken ? 1 : 0)..<hidden.count)
    }
    let projector = weights.layers.count + 1
    try stream.acquire(projector)
    project(features)
    stream.release(projector)
    return spent
  }

  /// The row behind each line.
  private func endLines(_ lines: Rows, _ image: ImageRows) {
    guard let newline = weights.newline else { return }
    for line in 0..<image.lineCount {
      lines[(line + 1) * (image.lineLength + 1) - 1].update(from: newline, count: lines.dim)
    }
  }

  /// A tile's part of every line it lies in.
  private func project(
    _ features: Rows, _ place: TilePlace, into lines: Rows, lineLength: Int
  ) {
    for row in place.rows {
      let first = row * config.patchesPerSide + place.columns.lowerBound
      let start = (place.firstLine + row) * (lineLength + 1) + place.firstColumn
      project(
        features.rows(first..<(first + place.columns.count)),
        into: lines.rows(start + place.columns.lowerBound..<start + place.columns.upperBound))
    }
  }

  /// Patches, class token, positions and the norm before the first layer.
  private func embed() {
    forEachChunk(config.patchCount) { rows in
      var input = LinearInput(patches.rows(rows))
      let out = hidden.rows((rows.lowerBound + 1)..<(rows.upperBound + 1))
      operations.linear(&input, weights.patchEmbedding, out)
    }
    hidden[0].update(from: weights.classEmbedding, count: config.dim)
    operations.forEachRow(config.positionCount, .addTable(hidden, weights.positions))
    norm(hidden, weights.preNorm, into: hidden)
  }

  private func run(_ weights: VisionLayerWeights, observing score: PatchScore?) -> Double {
    var spent = 0.0
    forEachChunk(hidden.count) { rows in
      let normed = scratch.normed.rows(0..<rows.count)
      let key = scratch.key.rows(0..<rows.count)
      let value = scratch.value.rows(0..<rows.count)
      norm(hidden.rows(rows), weights.attentionNorm, into: normed)
      var input = LinearInput(normed)
      operations.linear(&input, weights.query, query.rows(rows))
      operations.linear(&input, weights.key, key)
      operations.linear(&input, weights.value, value)
      operations.store(key, value, in: cache, at: rows.lowerBound)
    }
    if let score, let zip {
      let start = ProcessStatus.monotonicMilliseconds
      zip.observe(query, cache, score: score)
      spent = ProcessStatus.monotonicMilliseconds - start
    }
    operations.attend(query, cache, .all(count: hidden.count))
    forEachChunk(hidden.count) { rows in
      let x = hidden.rows(rows)
      var attended = LinearInput(query.rows(rows))
      operations.linear(&attended, weights.output, x, accumulate: true)
      mlp(weights, x)
    }
    return spent
  }

  private func mlp(_ weights: VisionLayerWeights, _ x: Rows) {
    let normed = scratch.normed.rows(0..<x.count)
    norm(x, weights.mlpNorm, into: normed)
    let inner = scratch.inner.reshaped(count: x.count, dim: config.hiddenDim)
    var input = LinearInput(normed)
    operations.linear(&input, weights.up, inner)
    operations.activate(inner, config.activation)
    var activated = LinearInput(inner)
    operations.linear(&activated, weights.down, x, accumulate: true)
  }

  /// Features as rows of the decoder.
  private func project(_ features: Rows, into out: Rows) {
    forEachChunk(out.count) { rows in
      let inner = scratch.inner.reshaped(count: rows.count, dim: config.projectorHiddenDim)
      var input = LinearInput(features.rows(rows))
      operations.linear(&input, weights.projector1, inner)
      operations.activate(inner, config.projectorActivation)
      var activated = LinearInput(inner)
      operations.linear(&activated, weights.projector2, out.rows(rows))
    }
  }

  private func norm(_ x: Rows, _ weights: LayerNormWeights, into out: Rows) {
    operations.layerNorm(x, weights, epsilon: config.layerNormEpsilon, into: out)
  }

  private func forEachChunk(_ count: Int, _ body: (Range<Int>) -> Void) {
    var start = 0
    while start < count {
      let end = min(count, start + chunkRows)
      body(start..<end)
      start = end
    }
  }
}
