import PIOBase

/// The bounds of `formats/PIOM.md` §5: within them `tensorSpecs` neither overflows nor explodes.
extension ModelConfig {
  public func validate() throws(ModelFileError) {
    try text.validate()
    try vision?.validate(vocabSize: text.vocabSize)
    try prompt.validate()
    try specialTokens.validate(vocabSize: text.vocabSize)
    guard let vision else { return }
    try check("special_tokens.image", specialTokens.image, 0...Int32.max)
    let needed = vision.needsRopeSections ? 3...3 : 0...3
    try check("text.rope_sections (count)", text.ropeSections.count, needed)
    try check("vision.deepstack_layers (count)", vision.deepstackCount, 0...text.layerCount)
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
    guard !ropeSections.isEmpty else {
      return try check("text.rope_interleaves", ropeInterleaves ? 1 : 0, 0...0)
    }
    try check("text.rope_sections (count)", ropeSections.count, 3...3)
    for section in ropeSections { try check("text.rope_sections", section, 0...headDim / 2) }
    try check("text.rope_sections (sum)", ropeSections.reduce(0, +), headDim / 2...headDim / 2)
  }
}

extension PromptTemplate {
  fileprivate func validate() throws(ModelFileError) {
    try check("prompt.name (bytes)", name.utf8.count, 1...64)
    let parts = [
      systemPrefix, systemSuffix, defaultSystem, userPrefix, userSuffix, assistantPrefix,
      assistantSuffix, imagePart, textPrefix, bareTextPrefix ?? "",
      conversationPrefix,
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

// What a decoder and a vision encoder have in common.
let maxDim = 1 << 20
let maxHeadDim = 4096
let maxHeads = 4096
let maxLayers = 1024
let epsilons: ClosedRange<Float> = 1e-20...1
