/// Qwen2-VL: an image at its own shape through a tower whose every patch attends to every other; LayerNorm, and an MLP of
/// two matrices.
public struct Qwen2VLConfig: Equatable, Sendable {
  public var tower = QwenTowerConfig()
  public var activation = Activation.quickGelu
  public var pixels = PixelRange()

  public init() {}
}

extension Qwen2VLConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try tower.codeSizes(&coder)
    try coder.choice(.visionActivation, &activation)
    try coder.integer(.visionMerge, &tower.merge)
    try pixels.code(&coder)
  }

  func validate() throws(ModelFileError) {
    try tower.validate()
    try pixels.validate(cellSide: tower.cellSide)
  }

  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    let tower = tower
    func norm(_ specs: inout SpecList, _ name: String) { specs.layerNorm(name, tower.dim) }
    tower.addPatchEmbedding(to: &specs)
    tower.addLayers(to: &specs, norm: norm, mlp: tower.addTwoMatrices)
    tower.addMerger(to: &specs, outputDim: outputDim, norm: norm)
  }
}
