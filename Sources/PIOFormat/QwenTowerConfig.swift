import PIOBase

/// What the vision towers of the Qwen-VL families have in common: patches of an image of any size, in blocks of
/// `merge` × `merge` that become one token, with rotary positions in two dimensions.
public struct QwenTowerConfig: Equatable, Sendable {
  public var patchSize = 0
  public var dim = 0
  public var hiddenDim = 0
  public var layerCount = 0
  public var headCount = 0
  public var normEpsilon: Float = 1e-6
  /// Patches that are one token, along each edge.
  public var merge = 2

  public init() {}

  public var headDim: Int { headCount > 0 ? dim / headCount : 0 }
  /// Pixels a side of a token.
  public var cellSide: Int { patchSize * merge }
  /// Numbers of a token's patches together.
  public var mergedDim: Int { merge * merge * dim }
}

/// How an image is resized where its size is its own: to multiples of a token's side, between two counts of pixels.
public struct PixelRange: Equatable, Sendable {
  public var least = 0
  public var most = 0
  public var filter = ImagePreprocessing.Filter.bicubic
  public var rescaleFactor: Float = 1 / 255
  public var mean: (Float, Float, Float) = (0, 0, 0)
  public var std: (Float, Float, Float) = (1, 1, 1)

  public init() {}

  /// The same normalisation, for a square of `side` pixels that an image is stretched to.
  public func preprocessing(side: Int) -> ImagePreprocessing {
    var steps = ImagePreprocessing()
    steps.fit = .stretch
    steps.filter = filter
    steps.resizeTo = side
    (steps.rescaleFactor, steps.mean, steps.std) = (rescaleFactor, mean, std)
    return steps
  }

  /// Most tokens of an image.
  public func mostTokens(_ tower: QwenTowerConfig) -> Int {
    let cell = Double(tower.cellSide * tower.cellSide)
    let (most, least) = (Double(most) / cell, Double(least) / cell)
    // Of an image up to 200 times as long as wide, the short edge of what is too large is a token at least, and the other
    // may be one more by f64's rounding; the edges of what is too small grow to the next multiples.
    let strip = (Self.longestAspect * most).squareRoot() + 1
    let grown =
      least + (Self.longestAspect * least).squareRoot()
      + (least / Self.longestAspect).squareRoot() + 1
    return Int(max(most, strip, grown))
  }

  /// The longest edge that an image is resized to, in pixels.
  public func longestEdge(_ tower: QwenTowerConfig) -> Int {
    let tokens = mostTokens(tower)
    // A short edge of n tokens and a half is rounded to n: by half of itself at most.
    let strip = Int((1.5 * Self.longestAspect * Double(tokens)).squareRoot()) + 2
    return min(tokens, strip) * tower.cellSide
  }

  /// Longer images are refused.
  public static let longestAspect = 200.0

  /// The fewest that `limit` takes.
  func fewestTokens(_ tower: QwenTowerConfig) -> Int {
    max(1, (least + tower.cellSide * tower.cellSide - 1) / (tower.cellSide * tower.cellSide))
  }

  /// Lets an image have `count` tokens at most. Returns false, and changes nothing, where images have more.
  mutating func limit(tokens count: Int, _ tower: QwenTowerConfig) -> Bool {
    guard count >= fewestTokens(tower) else { return false }
    most = min(most, count * tower.cellSide * tower.cellSide)
    return true
  }

  public static func == (a: PixelRange, b: PixelRange) -> Bool {
    a.least == b.least && a.most == b.most && a.filter == b.filter
      && a.rescaleFactor == b.rescaleFactor && a.mean == b.mean && a.std == b.std
  }
}

extension QwenTowerConfig {
  /// All but `merge`, behind which a family may have something of its own.
  mutating func codeSizes(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.integer(.visionPatchSize, &patchSize)
    try coder.integer(.visionDim, &dim)
    try coder.integer(.visionHiddenDim, &hiddenDim)
    try coder.integer(.visionLayerCount, &layerCount)
    try coder.integer(.visionHeadCount, &headCount)
    try coder.float(.visionLayerNormEpsilon, &normEpsilon)
  }

  func validate() throws(ModelFileError) {
    try check("vision.patch_size", patchSize, 1...256)
    try check("vision.dim", dim, 1...maxDim)
    try check("vision.hidden_dim", hiddenDim, 1...maxDim)
    try check("vision.layer_count", layerCount, 1...maxLayers)
    try check("vision.head_count", headCount, 1...maxHeads)
    try check("vision.dim % head_count", dim % headCount, 0...0)
    try check("vision.head_dim", headDim, 4...maxHeadDim)
    // A quarter of a head turns with the line, a quarter with the column.
    try check("vision.head_dim % 4", headDim % 4, 0...0)
    try check("vision.layer_norm_epsilon", normEpsilon, epsilons)
    try check("vision.merge", merge, 1...8)
    try check("vision.merge² * dim", mergedDim, 1...maxDim)
  }

  /// Columns in the order (channel, y, x) of one patch.
  func addPatchEmbedding(to specs: inout SpecList, bias: Bool = false) {
    specs.section = .visionEmbedding
    specs.linear("vision.patch_embedding", dim, 3 * patchSize * patchSize, bias: bias)
  }

  /// `norm` adds one with that name, `mlp` those of the MLP; `behind`: what follows the layer in a section of its own.
  func addLayers(
    to specs: inout SpecList, norm: (inout SpecList, String) -> Void,
    mlp: (inout SpecList, String) -> Void,
    behind: (inout SpecList, Int) -> Void = { _, _ in }
  ) {
    for layer in 0..<layerCount {
      specs.section = .visionLayer(layer)
      let name = "vision.layers.\(layer)"
      norm(&specs, name + ".attention_norm")
      for part in ["query", "key", "value", "output"] {
        specs.linear("\(name).attention.\(part)", dim, dim, bias: true)
      }
      norm(&specs, name + ".mlp_norm")
      mlp(&specs, name + ".mlp")
      behind(&specs, layer)
    }
  }

  /// An MLP of two matrices.
  func addTwoMatrices(to specs: inout SpecList, _ name: String) {
    specs.linear(name + ".up", hiddenDim, dim, bias: true)
    specs.linear(name + ".down", dim, hiddenDim, bias: true)
  }

  /// The connector: a norm of each patch, two matrices with GELU between them.
  func addMerger(
    to specs: inout SpecList, outputDim: Int, norm: (inout SpecList, String) -> Void
  ) {
    specs.section = .projector
    norm(&specs, "projector.norm")
    specs.linear("projector.linear1", mergedDim, mergedDim, bias: true)
    specs.linear("projector.linear2", outputDim, mergedDim, bias: true)
  }
}

extension PixelRange {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.choice(.imageFilter, &filter)
    try coder.float(.imageRescaleFactor, &rescaleFactor)
    try coder.floats(.imageMean, &mean)
    try coder.floats(.imageStd, &std)
    try coder.integer(.imageLeastPixels, &least)
    try coder.integer(.imageMostPixels, &most)
  }

  /// `cellSide`: pixels a side of a token.
  func validate(cellSide: Int) throws(ModelFileError) {
    try check("image.least_pixels", least, 1...(1 << 30))
    try check("image.most_pixels", most, max(least, cellSide * cellSide)...(1 << 30))
    try check("image.most_pixels / token", most / (cellSide * cellSide), 1...65_536)
    try preprocessing(side: 1).validate(imageSize: 1)
  }
}
