import PIOFormat
import PIOThreads

/// The name that files made by this converter carry.
public let converterName = "pioedge 0.1.0"

public struct ConvertOptions: Sendable, Equatable {
  /// A Hugging Face folder, or a GGUF file of the decoder.
  public var source: String
  /// The GGUF file of the vision encoder and the projector, to a GGUF `source`.
  public var projector: String?
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
  if !options.isDryRun, let file = plan.source.files.file(at: options.target) {
    throw .targetIsSource(path: options.target, file: file)
  }
  var tensors: [ConvertReport.Tensor]
  if options.isDryRun {
    tensors = plan.layout.tensors.map { ConvertReport.Tensor(entry: $0, signal: nil, noise: nil) }
  } else {
    tensors = try plan.write(options, progress)
  }
  return ConvertReport(
    config: plan.source.config, recipe: plan.recipe, byteCount: plan.layout.byteCount,
    sourceByteCount: plan.source.byteCount, tensors: tensors, ignored: plan.source.ignored)
}

/// A conversion all of whose decisions are made.
struct ConversionPlan {
  let source: ModelSource
  let encodings: [TensorEncoding]
  let recipe: String
  let layout: ModelLayout

  init(_ options: ConvertOptions) throws(ConvertError) {
    source = try ModelSource(options)
    encodings = try options.rules.encodings(
      for: source.specs, types: source.weights.map { $0?.type })
    var recipe = options.rules.recipe
    if let name = options.chatTemplate { recipe += " --chat-template \(name)" }
    self.recipe = recipe
    do throws(ModelFileError) {
      // Digests have one length, so that the layout is right before they are known.
      layout = try ModelLayout(
        config: source.config, encodings: encodings, tokenizerByteCount: source.tokenizer.count,
        provenance: Provenance(
          converter: converterName, recipe: recipe, sources: source.files.placeholders))
    } catch {
      throw .model(error)
    }
  }

  func write(
    _ options: ConvertOptions, _ progress: (ConvertProgress) -> Bool
  ) throws(ConvertError) -> [ConvertReport.Tensor] {
    let pool = try makePool(options.threadCount)
    let provenance = Provenance(
      converter: converterName, recipe: recipe, sources: try source.files.hash(pool, progress))
    var writer: ModelWriter
    do throws(ModelFileError) {
      writer = try ModelWriter(
        path: options.target, config: source.config, encodings: encodings,
        tokenizerSection: source.tokenizer, provenance: provenance,
        replacing: options.replacesTarget)
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
    let encoder = TensorEncoder(pool: pool)
    let total = source.weights.reduce(0) { $0 + ($1?.byteCount ?? 0) }
    var done = 0
    var tensors: [ConvertReport.Tensor] = []
    for (entry, weights) in zip(layout.tensors, source.weights) {
      guard let weights else {
        try appendFrequencies(to: &writer)
        tensors.append(ConvertReport.Tensor(entry: entry, signal: nil, noise: nil))
        continue
      }
      let fidelity = try encoder.encode(entry, from: weights, into: &writer) { byteCount in
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
    for frequency in source.frequencies {
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

func makePool(_ threadCount: Int) throws(ConvertError) -> ThreadPool {
  do throws(ThreadError) { return try ThreadPool(threadCount: threadCount) } catch {
    throw .threads(error)
  }
}
