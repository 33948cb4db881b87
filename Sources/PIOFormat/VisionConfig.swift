import PIOBase

/// The vision half of a model, of one family.
///
/// A family's own numbers are in its configuration; here is only what can be asked of every family.
public enum VisionConfig: Equatable, Sendable {
  case llava(LLaVAConfig)
  case llavaNext(LLaVANextConfig)

  /// The family's name, as messages and reports say it.
  public var familyName: String {
    switch self {
    case .llava: "LLaVA"
    case .llavaNext: "LLaVA-NeXT"
    }
  }

  public var preprocessing: ImagePreprocessing {
    get {
      switch self {
      case .llava(let llava): llava.preprocessing
      case .llavaNext(let next): next.preprocessing
      }
    }
    set {
      switch self {
      case .llava(var llava):
        llava.preprocessing = newValue
        self = .llava(llava)
      case .llavaNext(var next):
        next.preprocessing = newValue
        self = .llavaNext(next)
      }
    }
  }

  /// Most rows that one image gives to the decoder.
  public var maxRowCount: Int {
    switch self {
    case .llava(let llava): llava.visualTokenCount
    case .llavaNext(let next): next.maxRowCount
    }
  }

  /// Lets an image be cut into `count` tiles at most. Returns false, and changes nothing, where images are not cut
  /// into tiles, or never into so few.
  public mutating func keepResolutions(ofTiles count: Int) -> Bool {
    guard case .llavaNext(var next) = self, next.keepResolutions(ofTiles: count) else {
      return false
    }
    self = .llavaNext(next)
    return true
  }
}

extension VisionConfig {
  /// The family of a file whose vision entries come next, its numbers still to be read; nil: there are none.
  init?(familyOf decoder: MetadataDecoder) {
    guard decoder.isNext(.visionImageSize) else { return nil }
    self =
      decoder.has(.imageResolutions)
      ? .llavaNext(LLaVANextConfig()) : .llava(LLaVAConfig())
  }

  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    switch self {
    case .llava(var llava):
      try llava.code(&coder)
      self = .llava(llava)
    case .llavaNext(var next):
      try next.code(&coder)
      self = .llavaNext(next)
    }
  }

  func validate() throws(ModelFileError) {
    switch self {
    case .llava(let llava): try llava.validate()
    case .llavaNext(let next): try next.validate()
    }
  }

  /// The tensors of the vision encoder and of what follows it, up to rows of `outputDim` numbers.
  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    switch self {
    case .llava(let llava): llava.addSpecs(to: &specs, outputDim: outputDim)
    case .llavaNext(let next): next.addSpecs(to: &specs, outputDim: outputDim)
    }
  }
}
