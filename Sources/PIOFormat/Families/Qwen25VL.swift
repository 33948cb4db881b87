/// Qwen2.5-VL: an image at its own shape through a tower whose patches attend within windows, and in some layers to all;
/// RMSNorm and SwiGLU.
public struct Qwen25VLConfig: Equatable, Sendable {
  public var tower = QwenTowerConfig()
  /// Tokens a side of a window.
  public var window = 4
  /// Layers, from 0, in which every patch attends to every other.
  public var fullLayers: [Int] = []
  public var pixels = PixelRange()

  public init() {}
}

extension Qwen25VLConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try tower.codeSizes(&coder)
    try coder.integer(.visionMerge, &tower.merge)
    try coder.integer(.visionWindow, &window)
    try coder.integers(.visionFullLayers, &fullLayers)
    try pixels.code(&coder)
  }

  func validate() throws(ModelFileError) {
    try tower.validate()
    try check("vision.window", window, 1...4096)
    try check("vision.full_layers (count)", fullLayers.count, 0...tower.layerCount)
    for layer in fullLayers { try check("vision.full_layers", layer, 0...tower.layerCount - 1) }
    try pixels.validate(cellSide: tower.cellSide)
  }

  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    let tower = tower
    func norm(_ specs: inout SpecList, _ name: String) { specs.small(name + ".weight", tower.dim) }
    tower.addPatchEmbedding(to: &specs)
    tower.addLayers(to: &specs, norm: norm) { specs, name in
      specs.linear(name + ".gate", tower.hiddenDim, tower.dim, bias: true)
      specs.linear(name + ".up", tower.hiddenDim, tower.dim, bias: true)
      specs.linear(name + ".down", tower.dim, tower.hiddenDim, bias: true)
    }
    tower.addMerger(to: &specs, outputDim: outputDim, norm: norm)
  }
}
