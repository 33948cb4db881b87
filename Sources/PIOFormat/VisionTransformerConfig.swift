/// The numbers of a vision transformer with norms in front of its parts and a learned table of positions.
///
/// What towers have in common; what each of them has beside it is its own.
public protocol VisionTransformerConfig: Equatable, Sendable {
  /// Height and width of the input.
  var imageSize: Int { get set }
  var patchSize: Int { get set }
  var dim: Int { get set }
  var hiddenDim: Int { get set }
  /// Layers that run.
  var layerCount: Int { get set }
  var headCount: Int { get set }
  var layerNormEpsilon: Float { get set }
  var activation: Activation { get set }
  /// Rows of the encoder.
  var positionCount: Int { get }
}

extension VisionTransformerConfig {
  public var headDim: Int { headCount > 0 ? dim / headCount : 0 }
  /// What the last patch leaves over is dropped.
  public var patchesPerSide: Int { patchSize > 0 ? imageSize / patchSize : 0 }
  public var patchCount: Int { patchesPerSide * patchesPerSide }

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

  func validateSizes() throws(ModelFileError) {
    try check("vision.image_size", imageSize, 1...8192)
    try check("vision.patch_size", patchSize, 1...min(1024, imageSize))
    try check("vision.patch_count", patchCount, 1...65_536)
    try check("vision.dim", dim, 1...maxDim)
    try check("vision.hidden_dim", hiddenDim, 1...maxDim)
    try check("vision.layer_count", layerCount, 0...maxLayers)
    try check("vision.head_count", headCount, 1...maxHeads)
    try check("vision.dim % head_count", dim % headCount, 0...0)
    try check("vision.head_dim", headDim, 1...maxHeadDim)
    try check("vision.layer_norm_epsilon", layerNormEpsilon, epsilons)
  }

  /// Columns in the order (channel, y, x) of one patch.
  func addPatchEmbedding(to specs: inout SpecList) {
    specs.section = .visionEmbedding
    specs.add("vision.patch_embedding.weight", dim, 3 * patchSize * patchSize, .matrix)
  }

  func addLayers(to specs: inout SpecList) {
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
