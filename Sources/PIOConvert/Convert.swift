import PIOFormat
import PIOThreads

/// The name that files made by this converter carry.
public let converterName = "pioedge 0.1.0"

public struct ConvertOptions: Sendable, Equatable {
  /// A Hugging Face folder.
  public var source: String
  public var target: String
  public var rules: EncodingRules
  /// A template by name instead of the checkpoint's own.
  public var chatTemplate: String?
  /// Check everything but the weights themselves, write nothing.
  public var isDryRun = false
  /// Replace an existing target.
  public var replacesTarget = false
  public var threadCount: Int

  public init(
    source: String, target: String, rules: EncodingRules, threadCount: Int = defaultThreadCount()
  ) {
    self.source = source
    self.target = target
    self.rules = rules
    self.threadCount = threadCount
  }
}

/// How far a conversion is.
public struct ConvertProgress: Sendable, Equatable {
  public enum Step: Sendable { case hashing, converting }
  public let step: Step
  /// Bytes of the source, of this step.
  public let doneBytes: Int
  public let totalBytes: Int
}

/// Makes one `.piom` file of a checkpoint.
///
/// Everything that can be known without the weights is checked before a byte is written. The file
/// appears under its name whole or not at all. The same input and options give the same bytes.
/// Memory: the headers of the source, the tokenizer, and some chunks of megabytes; no tensor is
/// ever held whole. `progress` is called on the caller's thread; returning false ends it with
/// `ConvertError.cancelled`.
@discardableResult
public func convert(
  _ options: ConvertOptions, progress: (ConvertProgress) -> Bool = { _ in true }
) throws(ConvertError) -> ConvertReport {
  if !options.isDryRun { try checkTarget(options) }
  let plan = try ConversionPlan(options)
  if !options.isDryRun, let file = plan.files.file(at: options.target) {
    throw .targetIsSource(path: options.target, file: file)
  }
  let sourceByteCount = plan.checkpoint.files.reduce(0) { $0 + $1.byteCount }
  var tensors: [ConvertReport.Tensor]
  if options.isDryRun {
    tensors = plan.layout.tensors.map { ConvertReport.Tensor(entry: $0, signal: nil, noise: nil) }
  } else {
    tensors = try plan.write(options, progress)
  }
  return ConvertReport(
    config: plan.config, recipe: plan.recipe, byteCount: plan.layout.byteCount,
    sourceByteCount: sourceByteCount, tensors: tensors, ignored: plan.names.ignored)
}

/// A conversion all of whose decisions are made.
private struct ConversionPlan {
  let checkpoint: Checkpoint
  let config: ModelConfig
  let frequencies: [Float]
  let names: TensorNames
  let encodings: [TensorEncoding]
  let tokenizer: [UInt8]
  let recipe: String
  let files: SourceFiles
  let layout: ModelLayout

  init(_ options: ConvertOptions) throws(ConvertError) {
    var source = try CheckpointConfig(folder: options.source)
    checkpoint = try Checkpoint(folder: options.source)
    var names = try TensorNames(checkpoint, hasVision: source.vision != nil)
    if source.text.tiedHead, try names.headDiffers(checkpoint) { source.text.tiedHead = false }
    var config = ModelConfig(
      text: source.text, vision: source.vision, prompt: PromptTemplate(),
      specialTokens: SpecialTokens())
    // Bounds first: the list of tensors is only as small as the numbers that make it.
    config.specialTokens.image = Int32(source.imageTokenID ?? -1)
    try validate(config)
    let specs = tensorSpecs(for: config)
    try names.bind(specs, source)
    let read = try tokenizerOf(options, source)
    config.prompt = read.prompt
    config.specialTokens = read.special
    try validate(config)
    encodings = try options.rules.encodings(for: specs)
    var recipe = options.rules.recipe
    if let name = options.chatTemplate { recipe += " --chat-template \(name)" }
    self.recipe = recipe
    self.names = names
    self.config = config
    tokenizer = read.section
    frequencies = source.rope.frequencies
    files = SourceFiles(checkpoint)
    do throws(ModelFileError) {
      // Digests have one length, so that the layout is right before they are known.
      layout = try ModelLayout(
        config: config, encodings: encodings, tokenizerByteCount: tokenizer.count,
        provenance: Provenance(
          converter: converterName, recipe: recipe, sources: files.placeholders))
    } catch {
      throw .model(error)
    }
  }

  func write(
    _ options: ConvertOptions, _ progress: (ConvertProgress) -> Bool
  ) throws(ConvertError) -> [ConvertReport.Tensor] {
    let pool = ThreadPool(threadCount: options.threadCount)
    let provenance = Provenance(
      converter: converterName, recipe: recipe, sources: try files.hash(pool, progress))
    var writer: ModelWriter
    do throws(ModelFileError) {
      writer = try ModelWriter(
        path: options.target, config: config, encodings: encodings, tokenizerSection: tokenizer,
        provenance: provenance, replacing: options.replacesTarget)
    } catch {
      throw .model(error)
    }
    let tensors = try append(to: &writer, pool, progress)
    do throws(ModelFileError) { try writer.finish() } catch { throw .model(error) }
    return tensors
  }

  private func append(
    to writer: inout ModelWriter, _ pool: ThreadPool, _ progress: (ConvertProgress) -> Bool
  ) throws(ConvertError) -> [ConvertReport.Tensor] {
    let encoder = TensorEncoder(checkpoint: checkpoint, pool: pool)
    let total = names.sources.reduce(0) { $0 + ($1?.tensor.byteCount ?? 0) }
    var done = 0
    var tensors: [ConvertReport.Tensor] = []
    for (entry, source) in zip(layout.tensors, names.sources) {
      guard let source else {
        try appendFrequencies(to: &writer)
        tensors.append(ConvertReport.Tensor(entry: entry, signal: nil, noise: nil))
        continue
      }
      let fidelity = try encoder.encode(entry, from: source, into: &writer) { byteCount in
        done += byteCount
        return progress(ConvertProgress(step: .converting, doneBytes: done, totalBytes: total))
      }
      tensors.append(
        ConvertReport.Tensor(entry: entry, signal: fidelity.signal, noise: fidelity.noise))
    }
    return tensors
  }

  private func appendFrequencies(to writer: inout ModelWriter) throws(ConvertError) {
    var bytes: [UInt8] = []
    for frequency in frequencies {
      withUnsafeBytes(of: frequency.bitPattern.littleEndian) { bytes += $0 }
    }
    let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 4)
    defer { copy.deallocate() }
    copy.copyBytes(from: bytes)
    do throws(ModelFileError) {
      try writer.append(UnsafeRawBufferPointer(copy))
    } catch {
      throw .model(error)
    }
  }
}

private func checkTarget(_ options: ConvertOptions) throws(ConvertError) {
  do throws(ModelFileError) {
    try ModelWriter.checkTarget(options.target, replacing: options.replacesTarget)
  } catch {
    if case .exists(let path) = error { throw .targetExists(path: path) }
    throw .model(error)
  }
}

private func validate(_ config: ModelConfig) throws(ConvertError) {
  do throws(ModelFileError) { try config.validate() } catch { throw .model(error) }
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
