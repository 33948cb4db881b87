import PIOBase

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
    config.vision = VisionConfig(familyOf: decoder)
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
    if coder.codes(.textRopeSections, isPresent: !ropeSections.isEmpty) {
      try coder.integers(.textRopeSections, &ropeSections)
    }
    try coder.optionalFlag(.textRopeInterleaves, &ropeInterleaves)
    try coder.optionalFlag(.textQueryKeyNorm, &queryKeyNorm)
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
    if coder.codes(.promptBareTextPrefix, isPresent: bareTextPrefix != nil) {
      var prefix = bareTextPrefix ?? ""
      try coder.string(.promptBareTextPrefix, &prefix)
      bareTextPrefix = prefix
    }
    if coder.codes(.promptConversationPrefix, isPresent: !conversationPrefix.isEmpty) {
      try coder.string(.promptConversationPrefix, &conversationPrefix)
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
