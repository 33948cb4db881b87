import PIOBase
import PIOFormat
import PIOVision

/// LLaVA-1.5: the image as one square through CLIP, the features of its patches through the projector.
///
/// Source: Liu et al. 2023, arXiv:2310.03744.
struct LLaVAEncoder {
  let preparation: ImagePreparation
  private let config: LLaVAConfig
  private let tower: CLIPTower
  private let projector: MLPProjector
  private let stream: WeightStream
  private let imageScratch: UnsafeMutableRawBufferPointer

  init(
    _ config: LLaVAConfig, _ regions: LLaVARegions, _ parts: VisionParts, arena: borrowing Arena
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
  }

  func load(_ image: OpenImage) throws(ImageError) {
    try prepareImage(image, preparation, scratch: imageScratch, into: tower.patches.buffer)
  }

  func encode(
    _ image: LoadedImage, into out: Rows, _ cancellation: Cancellation?
  ) throws(RuntimeError) {
    precondition(out.count == image.layout.rowCount, "encode: row count")
    let all = try tower.features(cancellation)
    try project(all.rows((config.dropsClassToken ? 1 : 0)..<all.count), into: out)
  }

  func encode(
    _ image: LoadedImage, into out: Rows, _ reduction: Reduction, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Int {
    let firstPatch = config.dropsClassToken ? 0 : 1
    let place = TilePlace(wholeOf: config.tower.patchesPerSide, firstToken: firstPatch)
    let (features, milliseconds) = try tower.features(reduction.request, place, cancellation)
    let count = features.count
    try project(features, into: out.rows(0..<count))
    let records = reduction.records
    records.beginEncoding(image: reduction.image, tokenCount: image.layout.tokenCount)
    records.note(tower.zip!, place)
    for row in 0..<count {
      reduction.origins[row] = tower.zip!.order[row] + Int32(firstPatch)
    }
    records.endEncoding(origins: reduction.origins[..<count], milliseconds: milliseconds)
    return count
  }

  private func project(_ features: Rows, into out: Rows) throws(RuntimeError) {
    try stream.acquire(tower.unitCount)
    projector.project(features, into: out)
    stream.release(tower.unitCount)
  }
}

extension ImagePreparation {
  init(_ tower: CLIPConfig, _ preprocessing: ImagePreprocessing) {
    self.init(preprocessing, side: tower.imageSize, patchSize: tower.patchSize)
  }
}

struct LLaVARegions: Equatable, Sendable {
  let tower: TowerRegions
  let image: Region<UInt8>
  let imageEnd: Int

  init(_ layout: inout Layout, _ config: LLaVAConfig, limits: Limits, chunkRows: Int) {
    let preparation = ImagePreparation(config.tower, config.preprocessing)
    var image: Region<UInt8>?
    (tower, imageEnd) = TowerRegions.reserve(
      &layout, config.tower, zip: config.tower.zipShape,
      connectorDim: config.projector.hiddenDim, limits: limits,
      chunkRows: chunkRows
    ) { layout in
      image = layout.reserve(
        imageScratchByteCount(preparation, limits: limits.image(codecBytes: 0)))
    }
    self.image = image!
  }
}

extension LLaVAConfig {
  /// Whether the class token is one of an image's tokens.
  var hasClassToken: Bool { !dropsClassToken }

  /// The same for every image: its patches, behind the class token where that stays.
  var layout: VisualLayout {
    let grid = VisualLayout.Part.grid(
      .init(lines: tower.patchesPerSide, lineLength: tower.patchesPerSide))
    return VisualLayout(dropsClassToken ? [grid] : [.unplaced(1), grid])
  }
}
