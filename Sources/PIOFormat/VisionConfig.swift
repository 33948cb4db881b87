import PIOBase

/// The vision half of a model, of one family.
///
/// A family's own numbers are in its configuration; here is only what can be asked of every family.
public enum VisionConfig: Equatable, Sendable {
  case llava(LLaVAConfig)
  case llavaNext(LLaVANextConfig)
  case smolVLM(SmolVLMConfig)
  case qwen2VL(Qwen2VLConfig)
  case qwen25VL(Qwen25VLConfig)
  case qwen3VL(Qwen3VLConfig)

  /// The family's name, as messages and reports say it.
  public var familyName: String {
    switch self {
    case .llava: "LLaVA"
    case .llavaNext: "LLaVA-NeXT"
    case .smolVLM: "SmolVLM"
    case .qwen2VL: "Qwen2-VL"
    case .qwen25VL: "Qwen2.5-VL"
    case .qwen3VL: "Qwen3-VL"
    }
  }

  /// Most rows that one image gives to the decoder.
  public var maxRowCount: Int {
    switch self {
    case .llava(let llava): llava.visualTokenCount
    case .llavaNext(let next): next.maxRowCount
    case .smolVLM(let smol): smol.maxRowCount
    case .qwen2VL(let qwen): qwen.pixels.mostTokens(qwen.tower)
    case .qwen25VL(let qwen): qwen.pixels.mostTokens(qwen.tower)
    case .qwen3VL(let qwen): qwen.pixels.mostTokens(qwen.tower)
    }
  }

  /// Lets an image be cut into `count` tiles at most, beside the one that shows it whole. Returns false, and changes
  /// nothing, where images are not cut into tiles, or never into so few.
  public mutating func limitImages(tiles count: Int) -> Bool {
    switch self {
    case .llava, .qwen2VL, .qwen25VL, .qwen3VL: return false
    case .llavaNext(var next):
      guard next.keepResolutions(ofTiles: count) else { return false }
      self = .llavaNext(next)
    case .smolVLM(var smol):
      guard smol.limitImages(tokens: (count + 1) * smol.tileTokenCount) else { return false }
      self = .smolVLM(smol)
    }
    return true
  }

  /// Lets an image have `count` tokens at most, by fewer or smaller tiles, chosen before it is encoded. Returns false,
  /// and changes nothing, where images cannot have so few.
  public mutating func limitImages(tokens count: Int) -> Bool {
    switch self {
    case .llava(let llava): return llava.visualTokenCount <= count
    case .llavaNext(var next):
      let tiles = count / next.tileTokenCount - 1
      guard next.keepResolutions(ofTiles: tiles) else { return false }
      self = .llavaNext(next)
    case .smolVLM(var smol):
      guard smol.limitImages(tokens: count) else { return false }
      self = .smolVLM(smol)
    case .qwen2VL(var qwen):
      guard qwen.pixels.limit(tokens: count, qwen.tower) else { return false }
      self = .qwen2VL(qwen)
    case .qwen25VL(var qwen):
      guard qwen.pixels.limit(tokens: count, qwen.tower) else { return false }
      self = .qwen25VL(qwen)
    case .qwen3VL(var qwen):
      guard qwen.pixels.limit(tokens: count, qwen.tower) else { return false }
      self = .qwen3VL(qwen)
    }
    return true
  }

  /// What stands between the tiles of an image.
  public var markerTokens: [Int32] {
    guard case .smolVLM(let smol) = self else { return [] }
    return Set(smol.markers.all.joined()).sorted()
  }

  /// Whether the decoder turns a token with its line and column.
  var needsRopeSections: Bool {
    switch self {
    case .llava, .llavaNext, .smolVLM: false
    case .qwen2VL, .qwen25VL, .qwen3VL: true
    }
  }

  /// Layers of the decoder behind which something is added to an image's rows: its first so many.
  public var deepstackCount: Int {
    guard case .qwen3VL(let qwen) = self else { return 0 }
    return qwen.deepstackLayers.count
  }

  /// The least that `limitImages(tokens:)` takes.
  public var fewestTokens: Int {
    switch self {
    case .llava(let llava): llava.visualTokenCount
    case .llavaNext(let next): (next.fewestTiles + 1) * next.tileTokenCount
    case .smolVLM(let smol): smol.tileTokenCount
    case .qwen2VL(let qwen): qwen.pixels.fewestTokens(qwen.tower)
    case .qwen25VL(let qwen): qwen.pixels.fewestTokens(qwen.tower)
    case .qwen3VL(let qwen): qwen.pixels.fewestTokens(qwen.tower)
    }
  }

  /// The least that `limitImages(tiles:)` takes; nil: images are not cut into tiles.
  public var fewestTiles: Int? {
    switch self {
    case .llava, .qwen2VL, .qwen25VL, .qwen3VL: nil
    case .llavaNext(let next): next.fewestTiles
    case .smolVLM(let smol): smol.mostTiles > 1 ? 1 : nil
    }
  }

  /// How many tokens an image may have where nobody says otherwise: the checkpoint's, but for the families whose
  /// checkpoints let an image take most of a small board's time.
  public var usualTokenLimit: Int? {
    switch self {
    case .llava, .llavaNext: nil
    case .smolVLM, .qwen2VL, .qwen25VL, .qwen3VL: 1280
    }
  }
}

extension VisionConfig {
  /// Fills in what stands between an image's tiles as text, where anything does; `tokens` makes tokens of a text.
  public mutating func setMarkers<E: Error>(
    _ tokens: (String) throws(E) -> [Int32]
  ) throws(E) {
    guard case .smolVLM(var smol) = self else { return }
    smol.markers = try TileMarkers(mostTiles: smol.mostTiles, tokens)
    self = .smolVLM(smol)
  }
}

extension VisionConfig {
  /// The family of a file whose vision entries come next, its numbers still to be read; nil: there are none.
  init?(familyOf decoder: MetadataDecoder) {
    if decoder.isNext(.visionPatchSize) {
      self =
        decoder.has(.visionWindow)
        ? .qwen25VL(Qwen25VLConfig())
        : decoder.has(.visionPositionsPerSide)
          ? .qwen3VL(Qwen3VLConfig()) : .qwen2VL(Qwen2VLConfig())
      return
    }
    guard decoder.isNext(.visionImageSize) else { return nil }
    self =
      decoder.has(.imageLongestEdge)
      ? .smolVLM(SmolVLMConfig())
      : decoder.has(.imageResolutions) ? .llavaNext(LLaVANextConfig()) : .llava(LLaVAConfig())
  }

  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    switch self {
    case .llava(var llava):
      try llava.code(&coder)
      self = .llava(llava)
    case .llavaNext(var next):
      try next.code(&coder)
      self = .llavaNext(next)
    case .smolVLM(var smol):
      try smol.code(&coder)
      self = .smolVLM(smol)
    case .qwen2VL(var qwen):
      try qwen.code(&coder)
      self = .qwen2VL(qwen)
    case .qwen25VL(var qwen):
      try qwen.code(&coder)
      self = .qwen25VL(qwen)
    case .qwen3VL(var qwen):
      try qwen.code(&coder)
      self = .qwen3VL(qwen)
    }
  }

  func validate(vocabSize: Int) throws(ModelFileError) {
    switch self {
    case .llava(let llava): try llava.validate()
    case .llavaNext(let next): try next.validate()
    case .smolVLM(let smol): try smol.validate(vocabSize: vocabSize)
    case .qwen2VL(let qwen): try qwen.validate()
    case .qwen25VL(let qwen): try qwen.validate()
    case .qwen3VL(let qwen): try qwen.validate()
    }
  }

  /// What a reader must support to run it; the first families have no feature of their own.
  var feature: ModelFeature? {
    switch self {
    case .llava, .llavaNext: nil
    case .smolVLM: .smolVLM
    case .qwen2VL: .qwen2VL
    case .qwen25VL: .qwen25VL
    case .qwen3VL: .qwen3VL
    }
  }

  /// The tensors of the vision encoder and of what follows it, up to rows of `outputDim` numbers.
  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    switch self {
    case .llava(let llava): llava.addSpecs(to: &specs, outputDim: outputDim)
    case .llavaNext(let next): next.addSpecs(to: &specs, outputDim: outputDim)
    case .smolVLM(let smol): smol.addSpecs(to: &specs, outputDim: outputDim)
    case .qwen2VL(let qwen): qwen.addSpecs(to: &specs, outputDim: outputDim)
    case .qwen25VL(let qwen): qwen.addSpecs(to: &specs, outputDim: outputDim)
    case .qwen3VL(let qwen): qwen.addSpecs(to: &specs, outputDim: outputDim)
    }
  }
}
