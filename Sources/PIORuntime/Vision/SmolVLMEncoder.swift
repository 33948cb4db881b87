import PIOBase
import PIOFormat
import PIOVision

/// SmolVLM: the tiles of an image and the image whole, each through SigLIP, their patches joined and made rows of the
/// decoder; text in front of each tile says which it is.
///
/// The image is decoded once; its tiles go through the tower one after the other, in the same buffers.
/// Sources: Marafioti et al. 2025, arXiv:2504.05299; Laurençon et al. 2024, arXiv:2408.12637.
struct SmolVLMEncoder {
  let preparation: ImagePreparation
  private let config: SmolVLMConfig
  private let tower: SigLIPTower
  private let connector: PixelShuffle
  private let zip: VisionZip?
  private let stream: WeightStream
  private let imageScratch: UnsafeMutableRawBufferPointer
  /// The pixels of the tiles, and the levels they are normalised to.
  private let pixels: UnsafeMutableBufferPointer<UInt8>
  private let levels: UnsafeMutablePointer<Float>

  init(
    _ config: SmolVLMConfig, _ regions: SmolVLMRegions, _ parts: VisionParts,
    arena: borrowing Arena
  ) {
    self.config = config
    preparation = config.preparation
    tower = SigLIPTower(config.tower, regions.tower, parts, arena: arena)
    connector = PixelShuffle(config, tower.transformer, parts)
    zip = regions.tower.zip.map {
      VisionZip(config.zipShape, operations: parts.operations, regions: $0, arena: arena)
    }
    stream = parts.stream
    imageScratch = UnsafeMutableRawBufferPointer(arena.buffer(regions.image))
    pixels = arena.buffer(regions.tiles)
    levels = arena.pointer(regions.levels)
  }

  func load(_ image: OpenImage) throws(ImageError) {
    let size = PixelSize(height: image.info.height, width: image.info.width)
    try prepareSplit(
      image, preparation, config.split(size), scratch: imageScratch, into: pixels)
  }

  func encode(
    _ image: LoadedImage, into out: Rows, _ cancellation: Cancellation?
  ) throws(RuntimeError) {
    precondition(out.count == image.layout.rowCount, "encode: row count")
    let count = config.tileTokenCount
    for tile in 0..<config.split(image.size).tileCount {
      takePatches(of: tile)
      _ = try tower.run(observing: nil, by: nil, cancellation)
      let first = image.layout.row(of: tile * count)
      try withConnector {
        connector.project(connector.join(), into: out.rows(first..<(first + count)))
      }
    }
  }

  /// Each tile hands over its share of the request's rows, behind its own text.
  func encode(
    _ image: LoadedImage, into out: Rows, _ reduction: Reduction, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Int {
    guard let zip else { preconditionFailure("the plan has no room to reduce features") }
    let tileCount = config.split(image.size).tileCount
    let records = reduction.records
    records.beginEncoding(image: reduction.image, tokenCount: image.layout.tokenCount)
    var shares = TileShares(reduction.request.count, tileCount: tileCount) { _ in
      config.tileTokenCount
    }
    var places = ReducedRows(image.layout, origins: reduction.origins)
    var milliseconds = 0.0
    for tile in 0..<tileCount {
      places.passText(before: tile)
      let share = shares.next(config.tileTokenCount)
      if share == 0 { continue }
      let place = TilePlace(
        wholeOf: config.tokensPerSide, firstToken: tile * config.tileTokenCount)
      takePatches(of: tile)
      let request = reduction.request.with(count: share)
      milliseconds += try tower.run(observing: request.score, by: zip, cancellation)
      try withConnector {
        let start = ProcessStatus.monotonicMilliseconds
        let features = zip.reduce(connector.join(), request, place, into: connector.spare)
        milliseconds += ProcessStatus.monotonicMilliseconds - start
        let rows = places.place(zip.order, count: features.count, place)
        connector.project(features, into: out.rows(rows))
      }
      records.note(zip, place)
    }
    let count = places.finish()
    records.endEncoding(origins: reduction.origins[..<count], milliseconds: milliseconds)
    return count
  }

  private func takePatches(of tile: Int) {
    tilePatches(
      tile, of: pixels.baseAddress!, preparation, levels: levels,
      into: tower.patches.buffer)
  }

  private func withConnector(_ body: () -> Void) throws(RuntimeError) {
    let unit = tower.transformer.unitCount
    try stream.acquire(unit)
    body()
    stream.release(unit)
  }
}

/// Says which rows a reduced image has, tile by tile: the text between tiles stays.
private struct ReducedRows {
  private let layout: VisualLayout
  private let origins: UnsafeMutableBufferPointer<Int32>
  private var part = 0
  private var count = 0

  init(_ layout: VisualLayout, origins: UnsafeMutableBufferPointer<Int32>) {
    self.layout = layout
    self.origins = origins
  }

  /// Marks the rows of text in front of the next tile, which is grid number `tile`.
  mutating func passText(before tile: Int) {
    while part < layout.parts.count {
      defer { part += 1 }
      guard case .text(let ids) = layout.parts[part] else { return }
      for _ in ids {
        origins[count] = VisualRows.text
        count += 1
      }
    }
  }

  /// The tile's rows, of these tokens.
  mutating func place(
    _ order: UnsafePointer<Int32>, count tokens: Int, _ place: TilePlace
  ) -> Range<Int> {
    let first = count
    for index in 0..<tokens { origins[first + index] = Int32(place.token(of: Int(order[index]))!) }
    count += tokens
    return first..<count
  }

  /// Marks what text is left. Returns how many rows there are.
  mutating func finish() -> Int {
    passText(before: layout.parts.count)
    return count
  }
}

struct SmolVLMRegions: Equatable, Sendable {
  let tiles: Region<UInt8>
  let levels: Region<Float>
  let tower: TowerRegions
  let image: Region<UInt8>
  let imageEnd: Int

  init(_ layout: inout Layout, _ config: SmolVLMConfig, limits: Limits, chunkRows: Int) {
    let preparation = config.preparation
    let side = config.tower.imageSize
    tiles = layout.reserve(config.maxTileCount * 3 * side * side)
    levels = layout.reserve(3 * 256)
    var image: Region<UInt8>?
    (tower, imageEnd) = TowerRegions.reserve(
      &layout, config.tower, zip: config.zipShape, connectorDim: 0, limits: limits,
      chunkRows: chunkRows
    ) { layout in
      image = layout.reserve(
        splitScratchByteCount(
          preparation, longestEdge: config.longestEdgeInUse, limits: limits.image(codecBytes: 0)))
    }
    self.image = image!
  }
}

extension SmolVLMConfig {
  var preparation: ImagePreparation {
    ImagePreparation(preprocessing, side: tower.imageSize, patchSize: tower.patchSize)
  }

  var zipShape: ZipShape { ZipShape(tower, shuffle: shuffle, hasClassToken: false) }

  /// How an image of this size is cut: as the checkpoint says, or with its longest edge a smaller multiple of a tile, the
  /// first that keeps to the limit of tokens.
  func split(_ size: PixelSize) -> SplitLayout {
    var split = SplitLayout(size, longestEdge: longestEdge, splits: splits, side: tower.imageSize)
    var along = mostTiles - 1
    while !allows(tileCount: split.tileCount) && along >= 1 {
      split = SplitLayout(
        size, longestEdge: min(longestEdge, along * tower.imageSize),
        splits: splits && along > 1, side: tower.imageSize)
      along -= 1
    }
    return split
  }

  func layout(_ size: PixelSize) -> VisualLayout {
    let split = split(size)
    return layout(rows: split.rows, columns: split.columns)
  }

  /// Of no rows and columns the tile that shows the image whole is all there is.
  private func layout(rows: Int, columns: Int) -> VisualLayout {
    let grid = VisualLayout.Part.grid(
      .init(lines: tokensPerSide, lineLength: tokensPerSide))
    var parts: [VisualLayout.Part] = []
    for row in 0..<rows {
      for column in 0..<columns { parts += [.text(markers.tile(row, column)), grid] }
      parts.append(.text(row + 1 < rows ? markers.rowEnd : markers.lastRowEnd))
    }
    parts += [.text(markers.overview), grid, .text(markers.end)]
    return VisualLayout(parts, overview: rows * columns)
  }

  var layouts: [VisualLayout] {
    var found: [Int: VisualLayout] = [:]
    for (rows, columns) in shapes {
      let one =
        rows * columns > 1 ? layout(rows: rows, columns: columns) : layout(rows: 0, columns: 0)
      if found[one.tokenCount, default: one].rowCount <= one.rowCount {
        found[one.tokenCount] = one
      }
    }
    return found.values.sorted { $0.tokenCount < $1.tokenCount }
  }
}
