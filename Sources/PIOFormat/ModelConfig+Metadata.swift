/// The one list of what the metadata holds, in the order of the keys, for both directions.
extension ModelConfig {
  /// The metadata of a file with this configuration.
  func metadata(_ provenance: Provenance) -> [UInt8] {
    var encoder = MetadataEncoder()
    var (config, provenance) = (self, provenance)
    // Encoding throws nothing: only the decoder's calls can.
    try! config.code(&encoder)
    try! provenance.code(&encoder)
    return encoder.bytes
  }

  /// Reads and validates the metadata of a file.
  static func decode(
    _ bytes: ArraySlice<UInt8>
  ) throws(ModelFileError) -> (ModelConfig, Provenance) {
    var decoder = try MetadataDecoder(bytes)
    var config = ModelConfig(
      text: TextConfig(), vision: nil, prompt: PromptTemplate(), specialTokens: SpecialTokens())
    var provenance = Provenance(converter: "", recipe: "", sources: [])
    try config.text.code(&decoder)
    if decoder.isNext(.visionImageSize) { config.vision = VisionConfig() }
    try config.codeRest(&decoder)
    try provenance.code(&decoder)
    try decoder.finish()
    try config.validate()
    try provenance.validate()
    return (config, provenance)
  }

  private mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try text.code(&coder)
    try codeRest(&coder)
  }

  private mutating func codeRest(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    if var vision {
      try vision.code(&coder)
      self.vision = vision
    }
    try prompt.code(&coder)
    try specialTokens.code(&coder)
  }
}

extension TextConfig {
  fileprivate mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.integer(.textDim, &dim)
    try coder.integer(.textHiddenDim, &hiddenDim)
    try coder.integer(.textLayerCount, &layerCount)
    try coder.integer(.textHeadCount, &headCount)
    try coder.integer(.textKVHeadCount, &kvHeadCount)
    try coder.integer(.textHeadDim, &headDim)
    try coder.integer(.textVocabSize, &vocabSize)
    try coder.integer(.textMaxPositions, &maxPositions)
    try coder.float(.textRMSNormEpsilon, &rmsNormEpsilon)
    try coder.float(.textRopeTheta, &ropeTheta)
    try coder.choice(.textRopeScaling, &ropeScaling)
    try coder.float(.textRopeAttentionFactor, &ropeAttentionFactor)
    try coder.flag(.textQueryKeyValueBias, &queryKeyValueBias)
    try coder.flag(.textAttentionOutputBias, &attentionOutputBias)
    try coder.flag(.textMLPBias, &mlpBias)
    try coder.flag(.textTiedHead, &tiedHead)
    if coder.codes(.textSlidingWindow, isPresent: slidingWindow != nil) {
      var window = slidingWindow ?? 0
      try coder.integer(.textSlidingWindow, &window)
      slidingWindow = window
    }
  }
}

extension VisionConfig {
  fileprivate mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.integer(.visionImageSize, &imageSize)
    try coder.integer(.visionPatchSize, &patchSize)
    try coder.integer(.visionDim, &dim)
    try coder.integer(.visionHiddenDim, &hiddenDim)
    try coder.integer(.visionLayerCount, &layerCount)
    try coder.integer(.visionHeadCount, &headCount)
    try coder.float(.visionLayerNormEpsilon, &layerNormEpsilon)
    try coder.choice(.visionActivation, &activation)
    try coder.flag(.visionDropsClassToken, &dropsClassToken)
    try coder.integer(.projectorHiddenDim, &projectorHiddenDim)
    try coder.choice(.projectorActivation, &projectorActivation)
    try coder.flag(.projectorBias, &projectorBias)
    try preprocessing.code(&coder)
    if coder.codes(.imageResolutions, isPresent: isTiled) {
      // Height, width, height, width, …
      var edges = resolutions.flatMap { [$0.height, $0.width] }
      try coder.integers(.imageResolutions, &edges)
      guard edges.count % 2 == 0, !edges.isEmpty else {
        throw .metadata(key: "imageResolutions", problem: "\(edges.count) edges, needed pairs")
      }
      resolutions = stride(from: 0, to: edges.count, by: 2).map {
        ImageResolution(height: edges[$0], width: edges[$0 + 1])
      }
    }
  }
}

extension ImagePreprocessing {
  fileprivate mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.choice(.imageFit, &fit)
    try coder.choice(.imageFilter, &filter)
    try coder.integer(.imageResizeTo, &resizeTo)
    try coder.float(.imageRescaleFactor, &rescaleFactor)
    try coder.floats(.imageMean, &mean)
    try coder.floats(.imageStd, &std)
    var color = Int(padColor.0) << 16 | Int(padColor.1) << 8 | Int(padColor.2)
    try coder.integer(.imagePadColor, &color)
    try check("imagePadColor", color, 0...0xFF_FFFF)
    padColor = (
      UInt8(truncatingIfNeeded: color >> 16), UInt8(truncatingIfNeeded: color >> 8),
      UInt8(truncatingIfNeeded: color)
    )
  }
}

extension PromptTemplate {
  fileprivate mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.string(.promptName, &name)
    try coder.string(.promptSystemPrefix, &systemPrefix)
    try coder.string(.promptSystemSuffix, &systemSuffix)
    try coder.string(.promptDefaultSystem, &defaultSystem)
    try coder.string(.promptUserPrefix, &userPrefix)
    try coder.string(.promptUserSuffix, &userSuffix)
    try coder.string(.promptAssistantPrefix, &assistantPrefix)
    try coder.string(.promptAssistantSuffix, &assistantSuffix)
    try coder.string(.promptImagePart, &imagePart)
    try coder.flag(.promptAddsBeginToken, &addsBeginToken)
    if coder.codes(.promptTextPrefix, isPresent: !textPrefix.isEmpty) {
      try coder.string(.promptTextPrefix, &textPrefix)
    }
  }
}

extension SpecialTokens {
  fileprivate mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.token(.tokenBegin, &begin)
    var ids = end.map(Int.init)
    try coder.integers(.tokenEnd, &ids)
    end = []
    for id in ids {
      try check("tokenEnd", id, 0...Int(Int32.max))
      end.append(Int32(id))
    }
    try coder.token(.tokenImage, &image)
  }
}

extension Provenance {
  fileprivate mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try coder.string(.provenanceConverter, &converter)
    try coder.string(.provenanceRecipe, &recipe)
    // Name, digest, name, digest, …
    var list = sources.flatMap { [$0.name, $0.sha256] }
    try coder.strings(.provenanceSources, &list)
    guard list.count % 2 == 0 else {
      throw .metadata(key: "provenanceSources", problem: "a name without a digest")
    }
    sources = stride(from: 0, to: list.count, by: 2).map {
      SourceFile(name: list[$0], sha256: list[$0 + 1])
    }
  }
}

extension MetadataCoder {
  fileprivate mutating func flag(_ key: MetadataKey, _ value: inout Bool) throws(ModelFileError) {
    var number = value ? 1 : 0
    try integer(key, &number)
    try check("\(key)", number, 0...1)
    value = number == 1
  }

  fileprivate mutating func choice<T: RawRepresentable & CaseIterable>(
    _ key: MetadataKey, _ value: inout T
  ) throws(ModelFileError) where T.RawValue == UInt8 {
    var number = Int(value.rawValue)
    try integer(key, &number)
    guard let found = T.allCases.first(where: { Int($0.rawValue) == number }) else {
      let known = T.allCases.map { "\($0.rawValue)" }.joined(separator: ", ")
      throw .outOfBounds(field: "\(key)", found: "\(number)", allowed: "one of " + known)
    }
    value = found
  }

  fileprivate mutating func token(_ key: MetadataKey, _ value: inout Int32) throws(ModelFileError) {
    var number = Int(value)
    try integer(key, &number)
    try check("\(key)", number, -1...Int(Int32.max))
    value = Int32(number)
  }

  fileprivate mutating func floats(
    _ key: MetadataKey, _ value: inout (Float, Float, Float)
  ) throws(ModelFileError) {
    var list = [value.0, value.1, value.2]
    try floats(key, &list)
    guard list.count == 3 else {
      throw .metadata(key: "\(key)", problem: "\(list.count) numbers, needed 3")
    }
    value = (list[0], list[1], list[2])
  }
}
