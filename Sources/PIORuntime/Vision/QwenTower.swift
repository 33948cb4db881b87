import CPIOKernels
import Glibc
import PIOBase
import PIOFormat
import PIOVision

/// What a layer of a Qwen-VL tower does that the families do each in their own way.
protocol QwenLayer {
  func attentionNorm(_ x: Rows, into out: Rows, _ operations: Operations)
  func mlpNorm(_ x: Rows, into out: Rows, _ operations: Operations)
  /// `x += MLP(normed)`; `inner` and `gate` are scratch, `(rows, hiddenDim)`.
  func mlp(_ normed: Rows, inner: Rows, gate: Rows, into x: Rows, _ operations: Operations)
  var query: Linear { get }
  var key: Linear { get }
  var value: Linear { get }
  var output: Linear { get }
}

/// The vision tower of the Qwen-VL families: patches of an image of any size in, rows of the decoder out.
///
/// Patches go through in blocks of merge × merge, which become one token, and the blocks window by window; a window is
/// the whole image where a family has none. Queries and keys turn with a patch's line in one half of their frequencies, with
/// its column in the other.
/// Sources: Wang et al. 2024, arXiv:2409.12191; Bai et al. 2025, arXiv:2502.13923.
struct QwenTower<Layer: QwenLayer> {
  private let config: QwenTowerConfig
  private let layers: [Layer]
  /// Whether a layer's patches attend to all others.
  private let attendsToAll: (Int) -> Bool
  private let patchEmbedding: Linear
  /// Learned places beside the rotated ones; nil: there are none.
  private let places: LearnedPlaces?
  private let merger: QwenMerger
  private let deepstack: [QwenDeepstackMerger]
  private let stream: WeightStream
  private let operations: Operations
  private let chunkRows: Int
  /// Of the largest image, `(patches, dim)`.
  private let hidden: Rows
  private let query: Rows
  private let keyValue: UnsafeMutablePointer<Float>
  private let normed: Rows
  private let key: Rows
  private let value: Rows
  private let inner: Rows
  private let gate: Rows
  private let rotations: Rotations
  private let pixels: UnsafeMutableBufferPointer<UInt8>
  private let levels: UnsafeMutablePointer<Float>
  private let normalization: ImagePreprocessing

  init(
    _ config: QwenTowerConfig, layers: [Layer], merger: QwenMerger,
    places: LearnedPlaces? = nil, deepstack: [QwenDeepstackMerger] = [], _ regions: QwenRegions,
    normalization: ImagePreprocessing, _ parts: VisionParts, arena: borrowing Arena,
    attendsToAll: @escaping (Int) -> Bool
  ) {
    self.config = config
    self.layers = layers
    self.merger = merger
    self.places = places
    self.deepstack = deepstack
    self.attendsToAll = attendsToAll
    self.normalization = normalization
    patchEmbedding = parts.binding.linear("vision.patch_embedding")
    (stream, operations, chunkRows) = (parts.stream, parts.operations, regions.chunkRows)
    let (rows, dim) = (regions.patchCount, config.dim)
    hidden = Rows(base: arena.pointer(regions.hidden), count: rows, dim: dim)
    query = Rows(base: arena.pointer(regions.query), count: rows, dim: dim)
    keyValue = arena.pointer(regions.keyValue)
    normed = Rows(base: arena.pointer(regions.normed), count: chunkRows, dim: dim)
    key = Rows(base: arena.pointer(regions.key), count: chunkRows, dim: dim)
    value = Rows(base: arena.pointer(regions.value), count: chunkRows, dim: dim)
    inner = Rows(
      base: arena.pointer(regions.inner), count: chunkRows, dim: regions.inner.count / chunkRows)
    gate = Rows(base: arena.pointer(regions.gate), count: chunkRows, dim: config.hiddenDim)
    rotations = Rotations(
      cosines: arena.pointer(regions.cosines), sines: arena.pointer(regions.sines),
      headDim: config.headDim)
    pixels = arena.buffer(regions.pixels)
    levels = arena.pointer(regions.levels)
  }

  /// Encodes the image whose pixels `pixels` holds into `out`, a row for each token in the image's order, and what its
  /// layers say of the same tokens into `added`. `zip` looks at two layers; returns the milliseconds that took.
  ///
  /// Allocates nothing. Throws where weights cannot be read, or when the work is cancelled.
  func encode(
    _ grid: CellGrid, into out: Rows, _ added: Deepstack.Part, observing zip: GridZip? = nil,
    _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Double {
    precondition(out.count == grid.count, "encode: row count")
    let count = grid.count * config.merge * config.merge
    precondition(count <= hidden.count, "encode: patches")
    try embed(grid, count)
    let x = hidden.rows(0..<count)
    let cache = LayerCache(
      base: UnsafeMutableRawPointer(keyValue), kind: .f32, headCount: config.headCount,
      headDim: config.headDim, capacity: count)
    var unit = 1
    var milliseconds = 0.0
    for (index, layer) in layers.enumerated() {
      try cancellation.check()
      try stream.acquire(unit)
      forEachChunk(count, chunkRows) { rows in project(layer, x, rows, cache) }
      if let zip {
        let start = ProcessStatus.monotonicMilliseconds
        zip.observe(layer: index, query.rows(0..<count), cache, grid)
        milliseconds += ProcessStatus.monotonicMilliseconds - start
      }
      let arithmetic = EncoderAttention(
        beside: layer.query, operations, headDim: config.headDim)
      attend(grid, cache, count, toAll: attendsToAll(index), arithmetic)
      forEachChunk(count, chunkRows) { rows in finish(layer, x.rows(rows), rows) }
      stream.release(unit)
      unit += 1
      for (level, merger) in deepstack.enumerated() where merger.layer == index {
        try stream.acquire(unit)
        merger.project(x, chunkRows: chunkRows, scratch: inner, normed: query, into: added[level])
        stream.release(unit)
        unit += 1
      }
    }
    try stream.acquire(unit)
    merger.project(x, grid, chunkRows: chunkRows, scratch: inner, normed: query, into: out)
    stream.release(unit)
    return milliseconds
  }

  /// Patches, in the order of their blocks, and the angles of their places.
  private func embed(_ grid: CellGrid, _ count: Int) throws(RuntimeError) {
    try stream.acquire(0)
    normalization.fill(levels: levels)
    let width = grid.columns * config.cellSide
    forEachChunk(count, chunkRows) { rows in
      let patches = inner.reshaped(
        count: rows.count, dim: 3 * config.patchSize * config.patchSize)
      for row in rows {
        let place = place(row, grid)
        patch(
          line: place.line, column: place.column, side: config.patchSize, of: pixels.baseAddress!,
          width: width, levels: levels, into: patches[row - rows.lowerBound])
      }
      var input = LinearInput(patches)
      operations.linear(&input, patchEmbedding, hidden.rows(rows))
      if let places {
        let (lines, columns) = (grid.lines * config.merge, grid.columns * config.merge)
        for row in rows {
          let place = place(row, grid)
          places.add(
            line: place.line, of: lines, column: place.column, of: columns, to: hidden[row])
        }
      }
    }
    fillAngles(grid, count)
    stream.release(0)
  }

  /// The line and the column of the patch that is row `row`.
  private func place(_ row: Int, _ grid: CellGrid) -> (line: Int, column: Int) {
    let merge = config.merge
    let (cell, inside) = row.quotientAndRemainder(dividingBy: merge * merge)
    let place = grid.place(cell)
    return (place.line * merge + inside / merge, place.column * merge + inside % merge)
  }

  /// For patch (r, c) the angles r·f and c·f, with f_i = 10000^(−4i/headDim), i < headDim/4.
  private func fillAngles(_ grid: CellGrid, _ count: Int) {
    let (half, quarter) = (config.headDim / 2, config.headDim / 4)
    for i in 0..<quarter {
      let frequency = 1 / powf(10_000, Float(2 * i) / Float(half))
      for row in 0..<count {
        let place = place(row, grid)
        let at = row * half + i
        for (offset, position) in [(0, place.line), (quarter, place.column)] {
          let angle = Float(position) * frequency
          rotations.cosines[at + offset] = cosf(angle)
          rotations.sines[at + offset] = sinf(angle)
        }
      }
    }
  }

  private func project(_ layer: Layer, _ x: Rows, _ rows: Range<Int>, _ cache: LayerCache) {
    let normed = normed.rows(0..<rows.count)
    let key = key.rows(0..<rows.count)
    let value = value.rows(0..<rows.count)
    let query = query.rows(rows)
    layer.attentionNorm(x.rows(rows), into: normed, operations)
    var input = LinearInput(normed)
    operations.linear(&input, layer.query, query)
    operations.linear(&input, layer.key, key)
    operations.linear(&input, layer.value, value)
    operations.forEachRow(rows.count, .rotate(query, nil, rotations, firstRow: rows.lowerBound))
    operations.forEachRow(rows.count, .rotate(key, nil, rotations, firstRow: rows.lowerBound))
    operations.store(key, value, in: cache, at: rows.lowerBound)
  }

  private func attend(
    _ grid: CellGrid, _ cache: LayerCache, _ count: Int, toAll: Bool,
    _ arithmetic: EncoderAttention
  ) {
    guard !toAll else {
      return operations.attendToAll(query.rows(0..<count), cache, count: count, arithmetic)
    }
    let perCell = config.merge * config.merge
    grid.forEachWindow { cells in
      let rows = (cells.lowerBound * perCell)..<(cells.upperBound * perCell)
      var window = cache
      window.shift(by: rows.lowerBound)
      operations.attendToAll(query.rows(rows), window, count: rows.count, arithmetic)
    }
  }

  private func finish(_ layer: Layer, _ x: Rows, _ rows: Range<Int>) {
    var attended = LinearInput(query.rows(rows))
    operations.linear(&attended, layer.output, x, accumulate: true)
    let normed = normed.rows(0..<rows.count)
    layer.mlpNorm(x, into: normed, operations)
    let inner = inner.reshaped(count: rows.count, dim: config.hiddenDim)
    layer.mlp(normed, inner: inner, gate: gate.rows(0..<rows.count), into: x, operations)
  }
}

/// A norm of each patch, then two matrices with GELU between them, on the patches of a token together.
struct QwenMerger {
  private let first: Linear
  private let second: Linear
  private let norm: (Rows, Rows) -> Void
  private let operations: Operations
  private let mergedDim: Int
  private let perCell: Int

  init(
    _ config: QwenTowerConfig, _ parts: VisionParts, norm: @escaping (Rows, Rows) -> Void
  ) {
    first = parts.binding.linear("projector.linear1")
    second = parts.binding.linear("projector.linear2")
    operations = parts.operations
    self.norm = norm
    (mergedDim, perCell) = (config.mergedDim, config.merge * config.merge)
  }

  /// `x`: the patches in the tower's order; `normed`: as large; `out`: a row for each token in the image's order.
  func project(
    _ x: Rows, _ grid: CellGrid, chunkRows: Int, scratch: Rows, normed: Rows, into out: Rows
  ) {
    let all = normed.rows(0..<x.count)
    norm(x, all)
    // What the layers are done with takes the tokens in the image's order.
    let cells = x.reshaped(count: grid.count, dim: mergedDim)
    for line in 0..<grid.lines {
      for column in 0..<grid.columns {
        let from = all[perCell * grid.index(line: line, column: column)]
        cells[line * grid.columns + column].update(from: from, count: mergedDim)
      }
    }
    forEachChunk(out.count, chunkRows) { rows in
      let inner = scratch.reshaped(count: rows.count, dim: mergedDim)
      var input = LinearInput(cells.rows(rows))
      operations.linear(&input, first, inner)
      operations.activate(inner, .gelu)
      var activated = LinearInput(inner)
      operations.linear(&activated, second, out.rows(rows))
    }
  }
}

/// The tower's part of the arena, for the largest image.
struct QwenRegions: Equatable, Sendable {
  let pixels: Region<UInt8>
  let levels: Region<Float>
  let hidden: Region<Float>
  let query: Region<Float>
  let keyValue: Region<Float>
  let normed: Region<Float>
  let key: Region<Float>
  let value: Region<Float>
  /// `(chunkRows, widest of patch, MLP and connector)`.
  let inner: Region<Float>
  let gate: Region<Float>
  let cosines: Region<Float>
  let sines: Region<Float>
  let image: Region<UInt8>
  /// Nil where no way to prune that is planned drops tokens here.
  let zip: GridZipRegions?
  let patchCount: Int
  let chunkRows: Int
  let imageEnd: Int
  let end: Int

  init(
    _ layout: inout Layout, _ tower: QwenTowerConfig, _ range: PixelRange, textDim: Int,
    limits: Limits, chunkRows: Int
  ) {
    let tokens = range.mostTokens(tower)
    let rows = tokens * tower.merge * tower.merge
    let chunk = min(rows, chunkRows)
    patchCount = rows
    self.chunkRows = chunk
    pixels = layout.reserve(3 * tokens * tower.cellSide * tower.cellSide)
    levels = layout.reserve(3 * 256)
    let mark = layout.end
    image = layout.reserve(
      rasterScratchByteCount(
        longest: range.longestEdge(tower), filter: range.filter,
        limits: limits.image(codecBytes: 0)))
    imageEnd = layout.end
    layout.rewind(to: mark)
    hidden = layout.reserve(rows * tower.dim)
    query = layout.reserve(rows * tower.dim)
    keyValue = layout.reserve(2 * rows * tower.dim)
    normed = layout.reserve(chunk * tower.dim)
    key = layout.reserve(chunk * tower.dim)
    value = layout.reserve(chunk * tower.dim)
    let patchDim = 3 * tower.patchSize * tower.patchSize
    inner = layout.reserve(chunk * max(patchDim, tower.hiddenDim, tower.mergedDim))
    gate = layout.reserve(chunk * tower.hiddenDim)
    cosines = layout.reserve(rows * tower.headDim / 2)
    sines = layout.reserve(rows * tower.headDim / 2)
    zip =
      limits.prunings.contains { $0.prunes && $0.method.zips }
      ? GridZipRegions(
        &layout, tower, tokens: tokens, textDim: textDim, threadCount: limits.threadCount) : nil
    end = layout.end
  }
}
