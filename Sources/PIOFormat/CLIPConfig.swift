/// A CLIP vision transformer, as far as its features are used.
public struct CLIPConfig: Equatable, Sendable {
  /// Height and width of the input, a multiple of `patchSize`.
  public var imageSize = 0
  public var patchSize = 0
  public var dim = 0
  public var hiddenDim = 0
  /// Layers that run: those up to the layer whose output is the feature.
  public var layerCount = 0
  public var headCount = 0
  public var layerNormEpsilon: Float = 1e-5
  public var activation = Activation.quickGelu

  public init() {}

  public var headDim: Int { headCount > 0 ? dim / headCount : 0 }
  public var patchesPerSide: Int { patchSize > 0 ? imageSize / patchSize : 0 }
  public var patchCount: Int { patchesPerSide * patchesPerSide }
  /// Rows of the encoder: the patches and the class token.
  public var positionCount: Int { patchCount + 1 }
}

extension CLIPConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.integer(.visionImageSize, &imageSize)
    try coder.integer(.visionPatchSize, &patchSize)
    try coder.integer(.visionDim, &dim)
    try coder.integer(.visionHiddenDim, &hiddenDim)
    try coder.integer(.visionLayerCount, &layerCount)
    try coder.integer(.visionHeadCount, &headCount)
    try coder.float(.visionLayerNormEpsilon, &layerNormEpsilon)
    try coder.choice(.visionActivation, &activation)
  }

  func validate() throws(ModelFileError) {
    try check("vision.image_size", imageSize, 1...8192)
    try check("vision.patch_size", patchSize, 1...1024)
    try check("vision.image_size % patch_size", imageSize % patchSize, 0...0)
    try check("vision.patch_count", patchCount, 1...65_536)
    try check("vision.dim", dim, 1...maxDim)
    try check("vision.hidden_dim", hiddenDim, 1...maxDim)
    try check("vision.layer_count", layerCount, 0...maxLayers)
    try check("vision.head_count", headCount, 1...maxHeads)
    try check("vision.dim % head_count", dim % headCount, 0...0)
    try check("vision.head_dim", headDim, 1...maxHeadDim)
    try check("vision.layer_norm_epsilon", layerNormEpsilon, epsilons)
  }

  func addSpecs(to specs: inout SpecList) {
    specs.section = .visionEmbedding
    // Columns in the order (channel, y, x) of one patch.
    specs.add("vision.patch_embedding.weight", dim, 3 * patchSize * patchSize, .matrix)
    specs.small("vision.class_embedding", dim)
    specs.add("vision.position_embedding", positionCount, dim, .small)
    specs.layerNorm("vision.pre_norm", dim)
    for layer in 0..<layerCount {
      specs.section = .visionLayer(layer)
      let name = "vision.layers.\(layer)"
      specs.layerNorm(name + ".attention_norm", dim)
      for part in ["query", "key", "value", "output"] {
        specs.linear("\(name).attention.\(part)", dim, dim, bias: true)
      }
      specs.layerNorm(name + ".mlp_norm", dim)
      specs.linear(name + ".mlp.up", hiddenDim, dim, bias: true)
      specs.linear(name + ".mlp.down", dim, hiddenDim, bias: true)
    }
  }
}
