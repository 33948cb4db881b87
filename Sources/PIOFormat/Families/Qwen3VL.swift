/// Qwen3-VL: an image at its own shape through a tower whose patches have learned places as well as rotated ones. What some
/// layers of the tower say of a token is added to its row behind the decoder's first layers (DeepStack).
///
/// With no such layers it is the tower of Qwen3.5.
/// Source of DeepStack: Meng et al. 2024, arXiv:2406.04334.
public struct Qwen3VLConfig: Equatable, Sendable {
  public var tower = QwenTowerConfig()
  public var activation = Activation.geluTanh
  /// Lines, and columns, of the table of places, which is resampled to an image's own.
  public var positionsPerSide = 0
  /// Layers of the tower, from 0 and ascending: the output of the i-th is added behind decoder layer i.
  public var deepstackLayers: [Int] = []
  public var pixels = PixelRange()

  public init() {}
}

extension Qwen3VLConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try tower.codeSizes(&coder)
    try coder.choice(.visionActivation, &activation)
    try coder.integer(.visionMerge, &tower.merge)
    try coder.integer(.visionPositionsPerSide, &positionsPerSide)
    try coder.integers(.visionDeepstackLayers, &deepstackLayers)
    try pixels.code(&coder)
  }

  func validate() throws(ModelFileError) {
    try tower.validate()
    try check("vision.positions_per_side", positionsPerSide, 1...1024)
    var previous = -1
    for layer in deepstackLayers {
      try check("vision.deepstack_layers", layer, 0...tower.layerCount - 1)
      try check("vision.deepstack_layers (ascending)", layer, previous + 1...maxLayers)
      previous = layer
    }
    try pixels.validate(cellSide: tower.cellSide)
  }

  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    let tower = tower
    func norm(_ specs: inout SpecList, _ name: String) { specs.layerNorm(name, tower.dim) }
    tower.addPatchEmbedding(to: &specs, bias: true)
    let places = positionsPerSide * positionsPerSide
    specs.add("vision.position_embedding", places, tower.dim, .small)
    tower.addLayers(to: &specs, norm: norm, mlp: tower.addTwoMatrices) { specs, layer in
      guard let index = deepstackLayers.firstIndex(of: layer) else { return }
      specs.section = .deepstack(index)
      let name = "vision.deepstack.\(index)"
      specs.layerNorm(name + ".norm", tower.mergedDim)
      specs.linear(name + ".linear1", tower.mergedDim, tower.mergedDim, bias: true)
      specs.linear(name + ".linear2", outputDim, tower.mergedDim, bias: true)
    }
    tower.addMerger(to: &specs, outputDim: outputDim, norm: norm)
  }
}
