import CPIOKernels
import PIOBase
import PIOFormat
import PIOText
import PIOThreads
import PIOVision

/// A mapped model file with all that runs it, and that belongs to no conversation.
///
/// The one owner of file and arena: everything else here holds views of them.
final class Model {
  let config: ModelConfig
  let plan: Plan
  let tokenizer: Tokenizer
  /// Name of the kernels in use.
  let isa: String
  let operations: Operations
  let stream: WeightStream
  let decoder: Decoder
  let encoder: VisionEncoder?
  let file: ModelFile
  let arena: Arena
  let visualSpans: UnsafeMutableBufferPointer<Int32>
  let visualOrigins: UnsafeMutableBufferPointer<Int32>
  let textBuffer: UnsafeMutableBufferPointer<UInt8>
  private let imageLimits: ImageLimits
  private let optionalTypes = OptionalTypes()
  private let embeddingRow: UnsafeMutableBufferPointer<UInt8>

  init(_ file: consuming ModelFile, _ options: RuntimeOptions) throws(RuntimeError) {
    let table = try kernelTable(options.isa)
    options.host.apply()
    tokenizer = try loadTokenizer(of: file)
    let sizes = try ModelSizes(file, maxPieceBytes: tokenizer.maxPieceByteCount)
      .with(fit: options.fit)
    config = sizes.config
    plan = try Self.plan(sizes, options)
    let layout = plan.arena
    arena = try Arena(byteCount: layout.arenaByteCount)
    let binding = Binding(file)
    let pool: ThreadPool
    do throws(ThreadError) {
      stream = try WeightStream(
        plan.residency, file.pages, method: options.readAhead,
        dropsCache: plan.dropsCache(SystemMemory()), locks: plan.limits.locksWeights)
      if options.host.bindsCallingThread {
        bindCallingThread(threadCount: plan.limits.threadCount)
      }
      pool = try ThreadPool(threadCount: plan.limits.threadCount)
    } catch {
      throw .threads(error)
    }
    operations = Operations(kernels: table.pointee, pool: pool, plan: layout, arena: arena)
    decoder = Decoder(
      config: config.text, weights: binding.text(layout, arena), stream: stream,
      operations: operations, layout: layout, arena: arena)
    encoder = VisionEncoder(
      plan, config, VisionParts(binding: binding, stream: stream, operations: operations),
      arena: arena)
    var imageLimits = plan.limits.image(codecBytes: plan.codecByteCount)
    imageLimits.trimsHeap = options.host.trimsHeap
    self.imageLimits = imageLimits
    isa = String(cString: table.pointee.isa)
    visualSpans = arena.buffer(layout.prompt.visualSpans)
    visualOrigins = arena.buffer(layout.prompt.visualOrigins)
    textBuffer = arena.buffer(layout.slot.text)
    embeddingRow = arena.buffer(layout.embeddingRow)
    self.file = file
  }

  deinit {
    // The helper reads the file's pages: it ends before they are unmapped, whatever the order of the members.
    stream.stop()
  }

  private static func plan(
    _ sizes: ModelSizes, _ options: RuntimeOptions
  ) throws(RuntimeError) -> Plan {
    let process =
      options.process
      ?? ProcessMemory.measured(frontByteCount: sizes.frontByteCount, host: options.host)
    let plan = try Plan(sizes, limits: options.limits, process: process)
    if let cap = options.limits.memoryCap, !plan.fits {
      throw .doesNotFit(
        cap: cap, smallest: plan.smallestCapBytes,
        remedies: Plan.remedies(sizes, limits: options.limits, process: process))
    }
    return plan
  }

  /// Puts a token's embedding into row `row` of the decoder's input.
  func embed(_ token: Int32, at row: Int) throws(RuntimeError) {
    try decoder.weights.embedding.gather(
      Int(token), into: decoder.hidden[row], buffer: embeddingRow, file.pages, operations.kernels)
  }

  /// Reads an image's header: what it will come to.
  func open(_ image: Image) throws(RuntimeError) -> PromptImage {
    guard let vision = config.vision else { throw .modelTakesNoImages }
    do throws(ImageError) {
      let open =
        switch image {
        case .file(let path): try OpenImage(path: path, limits: imageLimits)
        case .bytes(let bytes, let name):
          try OpenImage(bytes: bytes, name: name, limits: imageLimits)
        }
      let size = PixelSize(height: open.info.height, width: open.info.width)
      guard vision.takes(size) else {
        throw .tooLong(path: open.name, width: size.width, height: size.height)
      }
      return .open(open, LoadedImage(size: size, layout: vision.layout(size)))
    } catch {
      throw .image(error)
    }
  }

  /// The tower's weights and buffers make room for the decoder's.
  func endEncoding() {
    stream.endEncoding()
    arena.giveBack(from: plan.arena.decoderEnd)
  }
}

/// How a runtime is made.
struct RuntimeOptions {
  let limits: Limits
  let fit: ImagePreprocessing.Fit?
  let isa: String?
  let readAhead: FilePages.Method?
  let process: ProcessMemory?
  let host: HostPolicy
}
