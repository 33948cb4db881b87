import PIOBase
import PIOFormat
import PIOVision

/// LLaVA-NeXT: the image whole and cut into tiles, each through CLIP and the projector; the patches of the tiles by
/// lines across all of them, each line with a row that ends it.
///
/// The image is decoded once; its tiles go through the tower one after the other, in the same buffers.
/// Source: Liu et al. 2024, "LLaVA-NeXT: Improved reasoning, OCR, and world knowledge".
struct LLaVANextEncoder {
  let preparation: ImagePreparation
  private let config: LLaVANextConfig
  private let tower: CLIPTower
  private let projector: MLPProjector
  private let stream: WeightStream
  private let imageScratch: UnsafeMutableRawBufferPointer
  /// The pixels of the tiles, and the levels they are normalised to.
  private let pixels: UnsafeMutableBufferPointer<UInt8>
  private let levels: UnsafeMutablePointer<Float>
  /// What ends a line, `(dim of the decoder)`.
  private let newline: UnsafePointer<Float>

  init(
    _ config: LLaVANextConfig, _ regions: LLaVANextRegions, _ parts: VisionParts,
    arena: borrowing Arena
  ) {
    self.config = config
    preparation = ImagePreparation(config.tower, config.preprocessing)
    tower = CLIPTower(
      config.tower, regions.tower, parts, arena: arena)
    projector = MLPProjector(
      config.projector, parts.binding.projector(), operations: parts.operations,
      inner: regions.tower.inner, chunkRows: regions.tower.chunkRows, arena: arena)
    stream = parts.stream
    imageScratch = UnsafeMutableRawBufferPointer(arena.buffer(regions.image))
    pixels = arena.buffer(regions.tiles)
    levels = arena.pointer(regions.levels)
    newline = parts.binding.small("projector.newline")
  }

  private var perSide: Int { config.tower.patchesPerSide }
  private var overviewCount: Int { config.tower.patchCount }

  func load(_ image: OpenImage) throws(ImageError) {
    _ = try prepareTiles(
      image, preparation, resolutions: config.resolutions, scratch: imageScratch, into: pixels)
  }

  func encode(
    _ image: LoadedImage, into out: Rows, _ cancellation: Cancellation?
  ) throws(RuntimeError) {
    precondition(out.count == image.layout.rowCount, "encode: row count")
    let tiles = config.tiles(image.size)
    let grid = tiles.patches(perSide: perSide)
    let lines = out.rows(overviewCount..<out.count)
    try encodeTile(0, cancellation) { features in
      projector.project(features, into: out.rows(0..<overviewCount))
      endLines(lines, grid)
    }
    for tile in 1..<tiles.tileCount {
      let place = place(tile, tiles, grid)
      // Padding alone.
      if place.patchCount == 0 { continue }
      try encodeTile(tile, cancellation) { features in
        project(features, place, into: lines, lineLength: grid.columns.count)
      }
    }
  }

  /// Each tile hands over its share of the request's rows, and a line that has a token left its end.
  func encode(
    _ image: LoadedImage, into out: Rows, _ reduction: Reduction, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Int {
    let tiles = config.tiles(image.size)
    let grid = tiles.patches(perSide: perSide)
    let records = reduction.records
    records.beginEncoding(image: reduction.image, tokenCount: image.layout.tokenCount)
    var shares = TileShares(reduction.request.count, tileCount: tiles.tileCount) {
      place($0, tiles, grid).patchCount
    }
    let order = TileOrder(
      keys: reduction.origins.baseAddress!, overviewCount: overviewCount,
      lineLength: grid.columns.count)
    var (done, milliseconds) = (0, 0.0)
    for tile in 0..<tiles.tileCount {
      let place = place(tile, tiles, grid)
      let share = shares.next(place.patchCount)
      if share == 0 { continue }
      takePatches(of: tile)
      let reduced = try tower.features(
        reduction.request.with(count: share), place, cancellation)
      try project(reduced.features, at: done, of: out)
      note(place, isOverview: tile == 0, reduced.features.count, at: done, order)
      records.note(tower.zip!, place)
      done += reduced.features.count
      milliseconds += reduced.milliseconds
    }
    let count = order.arrange(out, count: done)
    records.endEncoding(origins: reduction.origins[..<count], milliseconds: milliseconds)
    return count
  }

  /// A tile's features as rows from `first` on. What ends lines waits in the last row, as its weights go with the
  /// projector's.
  private func project(_ features: Rows, at first: Int, of out: Rows) throws(RuntimeError) {
    try withProjector {
      projector.project(features, into: out.rows(first..<(first + features.count)))
      out[out.count - 1].update(from: newline, count: out.dim)
    }
  }

  /// Which tokens the rows from `first` on are.
  private func note(
    _ place: TilePlace, isOverview: Bool, _ count: Int, at first: Int, _ order: TileOrder
  ) {
    for row in 0..<count {
      let patch = Int(tower.zip!.order[row])
      order.note(
        patch < 0 ? nil : place.token(of: patch), isOverview: isOverview, at: first + row)
    }
  }

  /// Where tile `tile` lies; tile 0 shows the image whole.
  private func place(_ tile: Int, _ tiles: TileLayout, _ grid: PatchLines) -> TilePlace {
    tile == 0
      ? TilePlace(wholeOf: perSide, firstToken: 0)
      : TilePlace(tile - 1, of: tiles, grid, perSide: perSide, firstToken: overviewCount)
  }

  private func encodeTile(
    _ tile: Int, _ cancellation: Cancellation?, _ project: (Rows) -> Void
  ) throws(RuntimeError) {
    takePatches(of: tile)
    let all = try tower.features(cancellation)
    try withProjector { project(all.rows(1..<all.count)) }
  }

  private func takePatches(of tile: Int) {
    tilePatches(
      tile, of: pixels.baseAddress!, preparation, levels: levels, into: tower.patches.buffer)
  }

  private func withProjector(_ body: () -> Void) throws(RuntimeError) {
    try stream.acquire(tower.unitCount)
    body()
    stream.release(tower.unitCount)
  }

  /// The row behind each line.
  private func endLines(_ lines: Rows, _ grid: PatchLines) {
    for line in 0..<grid.rows.count {
      lines[(line + 1) * (grid.columns.count + 1) - 1].update(from: newline, count: lines.dim)
    }
  }

  /// A tile's part of every line it lies in.
  private func project(_ features: Rows, _ place: TilePlace, into out: Rows, lineLength: Int) {
    for line in place.lines {
      let first = line * perSide + place.columns.lowerBound
      let start = (place.firstLine + line) * (lineLength + 1) + place.firstColumn
      projector.project(
        features.rows(first..<(first + place.columns.count)),
        into: out.rows(start + place.columns.lowerBound..<start + place.columns.upperBound))
    }
  }
}

struct LLaVANextRegions: Equatable, Sendable {
  let tiles: Region<UInt8>
  let levels: Region<Float>
  let tower: TowerRegions
  let image: Region<UInt8>
  let imageEnd: Int

  init(_ layout: inout Layout, _ config: LLaVANextConfig, limits: Limits, chunkRows: Int) {
    let preparation = ImagePreparation(config.tower, config.preprocessing)
    let resolutions = config.resolutions
    tiles = layout.reserve(tilePixelByteCount(preparation, resolutions: resolutions))
    levels = layout.reserve(3 * 256)
    var image: Region<UInt8>?
    (tower, imageEnd) = TowerRegions.reserve(
      &layout, config.tower, zip: config.tower.zipShape,
      connectorDim: config.projector.hiddenDim, limits: limits,
      chunkRows: chunkRows
    ) { layout in
      image = layout.reserve(
        tileScratchByteCount(
          preparation, resolutions: resolutions, limits: limits.image(codecBytes: 0)))
    }
    self.image = image!
  }
}

extension LLaVANextConfig {
  /// How an image of this size is cut.
  func tiles(_ size: PixelSize) -> TileLayout {
    TileLayout(size, resolutions: resolutions, side: tower.imageSize)
  }

  func layout(_ size: PixelSize) -> VisualLayout {
    let grid = tiles(size).patches(perSide: tower.patchesPerSide)
    return layout(lines: grid.rows.count, lineLength: grid.columns.count)
  }

  private func layout(lines: Int, lineLength: Int) -> VisualLayout {
    VisualLayout([
      .grid(.init(lines: tower.patchesPerSide, lineLength: tower.patchesPerSide)),
      .grid(.init(lines: lines, lineLength: lineLength, endsLines: true)),
    ])
  }

  var layouts: [VisualLayout] {
    var found: [Int: VisualLayout] = [:]
    for resolution in resolutions {
      let (rows, columns) = (
        resolution.height / tower.patchSize, resolution.width / tower.patchSize
      )
      // As much is left out at either end: the rest is even or odd as the whole.
      let shapes =
        stride(from: rows % 2, through: rows, by: 2).map { ($0, columns) }
        + stride(from: columns % 2, through: columns, by: 2).map { (rows, $0) }
      for (lines, length) in shapes {
        let one = layout(lines: lines, lineLength: length)
        if found[one.tokenCount, default: one].rowCount <= one.rowCount {
          found[one.tokenCount] = one
        }
      }
    }
    return found.values.sorted { $0.tokenCount < $1.tokenCount }
  }
}
