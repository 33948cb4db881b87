/// A CLIP vision transformer, as far as its features are used.
public struct CLIPConfig: VisionTransformerConfig {
  /// A multiple of `patchSize`.
  public var imageSize = 0
  public var patchSize = 0
  public var dim = 0
  public var hiddenDim = 0
  /// Those up to the layer whose output is the feature.
  public var layerCount = 0
  public var headCount = 0
  public var layerNormEpsilon: Float = 1e-5
  public var activation = Activation.quickGelu

  public init() {}

  /// The patches and the class token.
  public var positionCount: Int { patchCount + 1 }
}

extension CLIPConfig {
  func validate() throws(ModelFileError) {
    try validateSizes()
    try check("vision.image_size % patch_size", imageSize % patchSize, 0...0)
  }

  func addSpecs(to specs: inout SpecList) {
    addPatchEmbedding(to: &specs)
    specs.small("vision.class_embedding", dim)
    specs.add("vision.position_embedding", positionCount, dim, .small)
    specs.layerNorm("vision.pre_norm", dim)
    addLayers(to: &specs)
  }
}
