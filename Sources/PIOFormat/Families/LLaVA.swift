import PIOBase

/// LLaVA-1.5: CLIP on one square image, whose patches a projector makes rows of the decoder.
public struct LLaVAConfig: Equatable, Sendable {
  public var tower = CLIPConfig()
  /// Select strategy `default`: the class token is not among the features; false: `full`.
  public var dropsClassToken = true
  public var projector = ProjectorConfig()
  public var preprocessing = ImagePreprocessing()

  public init() {}

  /// Rows that an image gives to the decoder.
  public var visualTokenCount: Int { dropsClassToken ? tower.patchCount : tower.positionCount }
}

extension LLaVAConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try tower.code(&coder)
    try coder.flag(.visionDropsClassToken, &dropsClassToken)
    try projector.code(&coder)
    try preprocessing.code(&coder)
  }

  func validate() throws(ModelFileError) {
    try tower.validate()
    try projector.validate()
    try preprocessing.validate(imageSize: tower.imageSize)
  }

  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    tower.addSpecs(to: &specs)
    projector.addSpecs(to: &specs, inputDim: tower.dim, outputDim: outputDim)
  }
}
