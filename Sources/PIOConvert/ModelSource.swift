import PIOBase
import PIOFormat

/// Whether a conversion from `path` would read it as a GGUF file: it is no folder.
public func isGGUF(_ path: String) throws(ConvertError) -> Bool { try GGUFFile.isFile(path) }

/// A model as its source holds it: everything known and checked but the numbers of its weights.
struct ModelSource {
  let config: ModelConfig
  let specs: [TensorSpec]
  /// Where each of `specs` comes from; nil for the rotary frequencies, which are computed.
  let weights: [WeightSource?]
  /// (headDim / 2)
  let frequencies: [Float]
  /// The bytes of the tokenizer section.
  let tokenizer: [UInt8]
  /// Tensors of the source that the model does not need.
  let ignored: [String]
  let files: SourceFiles
  /// Of the files that hold weights.
  let byteCount: Int

  /// A folder is a Hugging Face checkpoint, a file a GGUF one.
  init(_ options: ConvertOptions) throws(ConvertError) {
    if try GGUFFile.isFile(options.source) {
      self = try ModelSource(gguf: options)
    } else {
      guard options.projector == nil else { throw .projectorWithoutGGUF(path: options.source) }
      self = try ModelSource(checkpoint: options)
    }
  }

  init(
    config: ModelConfig, weights: [WeightSource?], frequencies: [Float], tokenizer: [UInt8],
    ignored: [String], files: SourceFiles, byteCount: Int
  ) throws(ConvertError) {
    try config.validated()
    self.config = config
    specs = tensorSpecs(for: config)
    self.weights = weights
    self.frequencies = frequencies
    self.tokenizer = tokenizer
    self.ignored = ignored
    self.files = files
    self.byteCount = byteCount
  }

  private init(checkpoint options: ConvertOptions) throws(ConvertError) {
    var source = try CheckpointConfig(folder: options.source)
    let checkpoint = try Checkpoint(folder: options.source)
    var names = try TensorNames(checkpoint, source.visionSource)
    if source.text.tiedHead, try names.headDiffers(checkpoint) { source.text.tiedHead = false }
    var config = ModelConfig(
      text: source.text, vision: source.vision, prompt: PromptTemplate(),
      specialTokens: SpecialTokens())
    // Bounds first: the list of tensors is only as small as the numbers that make it.
    config.specialTokens.image = Int32(source.imageTokenID ?? -1)
    try config.validated()
    try names.bind(tensorSpecs(for: config), tiedHead: source.text.tiedHead)
    let read = try tokenizerOf(options, source)
    try config.add(read)
    try self.init(
      config: config,
      weights: names.weights(of: checkpoint),
      frequencies: source.rope.frequencies, tokenizer: read.section, ignored: names.ignored,
      files: try SourceFiles(checkpoint),
      byteCount: checkpoint.files.reduce(0) { $0 + $1.byteCount })
  }
}

extension ModelConfig {
  /// What the tokenizer decides: the prompt, special tokens, and the text between an image's tiles.
  mutating func add(_ tokenizer: ConvertedTokenizer) throws(ConvertError) {
    prompt = tokenizer.prompt
    specialTokens = tokenizer.special
    let vocabSize = text.vocabSize
    do throws(TokenizerConvertError) {
      try vision?.setMarkers { text throws(TokenizerConvertError) in
        try tokenizer.tokens(of: text, vocabSize: vocabSize)
      }
    } catch {
      throw .tokenizer(error)
    }
  }

  func validated() throws(ConvertError) {
    do throws(ModelFileError) { try validate() } catch { throw .model(error) }
  }
}

private func tokenizerOf(
  _ options: ConvertOptions, _ source: CheckpointConfig
) throws(ConvertError) -> ConvertedTokenizer {
  do throws(TokenizerConvertError) {
    return try readTokenizer(
      folder: options.source, chatTemplate: options.chatTemplate,
      vocabSize: source.text.vocabSize, imageTokenID: source.imageTokenID)
  } catch {
    throw .tokenizer(error)
  }
}
