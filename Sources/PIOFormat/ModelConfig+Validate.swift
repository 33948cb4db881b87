/// The bounds of `formats/PIOM.md` §5: within them `tensorSpecs` neither overflows nor explodes.
extension ModelConfig {
  public func validate() throws(ModelFileError) {
    try text.validate()
    try vision?.validate()
    try prompt.validate()
    try specialTokens.validate(vocabSize: text.vocabSize)
    if vision != nil { try check("special_tokens.image", specialTokens.image, 0...Int32.max) }
  }
}

extension TextConfig {
  fileprivate func validate() throws(ModelFileError) {
    try check("text.dim", dim, 1...maxDim)
    try check("text.hidden_dim", hiddenDim, 1...maxDim)
    try check("text.layer_count", layerCount, 1...maxLayers)
    try check("text.head_count", headCount, 1...maxHeads)
    try check("text.kv_head_count", kvHeadCount, 1...headCount)
    try check("text.head_dim", headDim, 2...maxHeadDim)
    try check("text.head_count * head_dim", headCount * headDim, 1...maxDim)
    try check("text.vocab_size", vocabSize, 1...(1 << 22))
    try check("text.max_positions", maxPositions, 1...(1 << 24))
    try check("text.head_count % kv_head_count", headCount % kvHeadCount, 0...0)
    try check("text.head_dim % 2", headDim % 2, 0...0)
    try check("text.rms_norm_epsilon", rmsNormEpsilon, epsilons)
    try check("text.rope_theta", ropeTheta, 1e-3...1e12)
    try check("text.rope_attention_factor", ropeAttentionFactor, 1e-3...1e3)
    if let slidingWindow { try check("text.sliding_window", slidingWindow, 1...(1 << 24)) }
  }
}

extension VisionConfig {
  fileprivate func validate() throws(ModelFileError) {
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
    try check("projector.hidden_dim", projectorHiddenDim, 1...maxDim)
    try preprocessing.validate(imageSize: imageSize)
    try check("image.resolutions (count)", resolutions.count, 0...64)
    for resolution in resolutions { try validate(resolution) }
    guard isTiled else { return }
    // Tiles are put together by their patches: there is no place for a class token.
    try check("vision.drops_class_token", dropsClassToken ? 1 : 0, 1...1)
    try check("image.fit", Int(preprocessing.fit.rawValue), 2...2)
  }

  private func validate(_ resolution: ImageResolution) throws(ModelFileError) {
    for edge in [resolution.height, resolution.width] {
      try check("image.resolutions", edge, 1...8192)
      try check("image.resolutions % image_size", edge % imageSize, 0...0)
    }
    let patches = (resolution.height / patchSize) * (resolution.width / patchSize)
    try check("image.resolutions (patches)", patches, 1...65_536)
  }
}

extension ImagePreprocessing {
  fileprivate func validate(imageSize: Int) throws(ModelFileError) {
    // A crop is cut out of the resized image; the other fits resize to the input itself.
    try check(
      "image.resize_to", resizeTo, fit == .crop ? imageSize...8192 : imageSize...imageSize)
    try check("image.rescale_factor", rescaleFactor, 1e-9...1e3)
    for mean in [mean.0, mean.1, mean.2] { try check("image.mean", mean, -1e6...1e6) }
    for std in [std.0, std.1, std.2] { try check("image.std", std, 1e-6...1e6) }
  }
}

extension PromptTemplate {
  fileprivate func validate() throws(ModelFileError) {
    try check("prompt.name (bytes)", name.utf8.count, 1...64)
    let parts = [
      systemPrefix, systemSuffix, defaultSystem, userPrefix, userSuffix, assistantPrefix,
      assistantSuffix, imagePart, textPrefix,
    ]
    for part in parts { try check("prompt part (bytes)", part.utf8.count, 0...65_536) }
    guard name.unicodeScalars.allSatisfy({ !isControl($0) }) else {
      throw .outOfBounds(field: "prompt.name", found: "a control character", allowed: "a name")
    }
  }
}

extension SpecialTokens {
  fileprivate func validate(vocabSize: Int) throws(ModelFileError) {
    let last = Int32(vocabSize - 1)
    try check("special_tokens.begin", begin, -1...last)
    try check("special_tokens.image", image, -1...last)
    try check("special_tokens.end (count)", end.count, 0...64)
    for id in end { try check("special_tokens.end", id, 0...last) }
  }
}

private let maxDim = 1 << 20
private let maxHeadDim = 4096
private let maxHeads = 4096
private let maxLayers = 1024
private let epsilons: ClosedRange<Float> = 1e-20...1
