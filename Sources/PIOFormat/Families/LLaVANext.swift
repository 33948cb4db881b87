import PIOBase

/// LLaVA-1.6 (LLaVA-NeXT): CLIP on tiles, those that an image is cut into and one that shows it whole.
///
/// Tiles are put together by their patches, so the class token is never among the features.
public struct LLaVANextConfig: Equatable, Sendable {
  public var tower = CLIPConfig()
  public var projector = ProjectorConfig()
  /// Of the tile that shows the image whole; the other tiles take mean, deviation and filter from it.
  public var preprocessing = ImagePreprocessing()
  /// The resolutions, in order, one of which an image is cut into tiles at: multiples of the tower's input.
  public var resolutions: [PixelSize] = []

  public init() { preprocessing.fit = .stretch }

  /// Visual tokens of one whole tile.
  public var tileTokenCount: Int { tower.patchCount }

  /// Tiles that a resolution is cut into, beside the one that shows the image whole.
  public func tileCount(_ resolution: PixelSize) -> Int {
    (resolution.height / tower.imageSize) * (resolution.width / tower.imageSize)
  }

  /// Tiles of the resolution that has the fewest.
  public var fewestTiles: Int { resolutions.map(tileCount).min() ?? 0 }

  /// Leaves the resolutions of at most `count` tiles; changes nothing and returns false where there is none.
  public mutating func keepResolutions(ofTiles count: Int) -> Bool {
    let kept = resolutions.filter { tileCount($0) <= count }
    if !kept.isEmpty { resolutions = kept }
    return !kept.isEmpty
  }

  /// Rows that an image which fills a resolution gives beside the tile that shows it whole: the patches, and one
  /// behind each line of them.
  public func rowCount(_ resolution: PixelSize) -> Int {
    (resolution.height / tower.patchSize) * (resolution.width / tower.patchSize + 1)
  }

  /// Most rows that an image gives to the decoder.
  public var maxRowCount: Int {
    tileTokenCount + resolutions.reduce(0) { max($0, rowCount($1)) }
  }
}

extension LLaVANextConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try tower.code(&coder)
    var dropsClassToken = true
    try coder.flag(.visionDropsClassToken, &dropsClassToken)
    try check("vision.drops_class_token", dropsClassToken ? 1 : 0, 1...1)
    try projector.code(&coder)
    try preprocessing.code(&coder)
    // Height, width, height, width, …
    var edges = resolutions.flatMap { [$0.height, $0.width] }
    try coder.integers(.imageResolutions, &edges)
    guard edges.count % 2 == 0, !edges.isEmpty else {
      throw .metadata(key: "imageResolutions", problem: "\(edges.count) edges, needed pairs")
    }
    resolutions = stride(from: 0, to: edges.count, by: 2).map {
      PixelSize(height: edges[$0], width: edges[$0 + 1])
    }
  }

  func validate() throws(ModelFileError) {
    try tower.validate()
    try projector.validate()
    try preprocessing.validate(imageSize: tower.imageSize)
    try check("image.fit", Int(preprocessing.fit.rawValue), 2...2)
    try check("image.resolutions (count)", resolutions.count, 1...64)
    for resolution in resolutions { try validate(resolution) }
  }

  private func validate(_ resolution: PixelSize) throws(ModelFileError) {
    for edge in [resolution.height, resolution.width] {
      try check("image.resolutions", edge, 1...8192)
      try check("image.resolutions % image_size", edge % tower.imageSize, 0...0)
    }
    let patches = (resolution.height / tower.patchSize) * (resolution.width / tower.patchSize)
    try check("image.resolutions (patches)", patches, 1...65_536)
  }

  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    tower.addSpecs(to: &specs)
    projector.addSpecs(to: &specs, inputDim: tower.dim, outputDim: outputDim)
    specs.small("projector.newline", outputDim)
  }
}
