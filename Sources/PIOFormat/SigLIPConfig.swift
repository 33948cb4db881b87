/// A SigLIP vision transformer: no class token, a bias on the patches, and a norm behind the last layer, whose output is
/// the feature.
public struct SigLIPConfig: VisionTransformerConfig {
  public var imageSize = 0
  public var patchSize = 0
  public var dim = 0
  public var hiddenDim = 0
  public var layerCount = 0
  public var headCount = 0
  public var layerNormEpsilon: Float = 1e-6
  public var activation = Activation.geluTanh

  public init() {}

  public var positionCount: Int { patchCount }
}

extension SigLIPConfig {
  func validate() throws(ModelFileError) {
    try validateSizes()
    try check("vision.layer_count", layerCount, 1...maxLayers)
  }

  /// The last norm goes with the connector: both run when the layers are done.
  func addSpecs(to specs: inout SpecList) {
    addPatchEmbedding(to: &specs)
    specs.small("vision.patch_embedding.bias", dim)
    specs.add("vision.position_embedding", positionCount, dim, .small)
    addLayers(to: &specs)
    specs.section = .projector
    specs.layerNorm("vision.post_norm", dim)
  }
}
