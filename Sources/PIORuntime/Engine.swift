import CPIOKernels
import PIOFormat
import PIOText
import PIOThreads
import PIOVision

/// A mapped model and the memory to run it: the one owner of both.
public struct Engine: ~Copyable {
  public var config: ModelConfig { Engine.config(parts) }
  public var memory: Plan { Engine.memory(parts) }
  /// The runtime's own part of `memory`.
  public var plan: ArenaLayout { Engine.memory(parts).arena }
  public let tokenizer: Tokenizer
  /// Name of the kernels in use.
  public let isa: String
  public var modelByteCount: Int { file.byteCount }

  private let file: ModelFile
  let arena: Arena
  private let pool: ThreadPool
  private let parts: Parts
  private var cache: KVArena
  private var sampler: Sampler
  private let embeddingRow: UnsafeMutableBufferPointer<UInt8>
  private let textBuffer: UnsafeMutableBufferPointer<UInt8>
  private var session: Session
  var visual: VisualRows
  var schedule: Schedule
  /// Visual rows of the prompt in work that enter the decoder, tokens of its images, and of those encoded so far.
  var entering: (rows: Int, tokens: Int, seen: Int)

  var stream: WeightStream { Engine.stream(parts) }
  private var operations: Operations { Engine.operations(parts) }
  var encoder: VisionEncoder? { Engine.encoder(parts) }
  var decoder: Decoder {
    get { Engine.decoder(parts) }
    set { parts.decoder = newValue }
  }

  /// Values of hundreds of fields, out of the noncopyable struct: Swift 6.0.3 follows every field through each of its
  /// methods and does not come to an end.
  private final class Parts {
    let config: ModelConfig
    let memory: Plan
    let stream: WeightStream
    let operations: Operations
    let encoder: VisionEncoder?
    var decoder: Decoder

    init(
      config: ModelConfig, memory: Plan, stream: WeightStream, operations: Operations,
      encoder: VisionEncoder?, decoder: Decoder
    ) {
      self.config = config
      self.memory = memory
      self.stream = stream
      self.operations = operations
      self.encoder = encoder
      self.decoder = decoder
    }
  }

  // Functions of the class alone: read through the struct, Swift 6.0.3 stops with an ownership error of its own.
  private static func config(_ parts: Parts) -> ModelConfig { parts.config }
  private static func memory(_ parts: Parts) -> Plan { parts.memory }
  private static func stream(_ parts: Parts) -> WeightStream { parts.stream }
  private static func operations(_ parts: Parts) -> Operations { parts.operations }
  private static func encoder(_ parts: Parts) -> VisionEncoder? { parts.encoder }
  private static func decoder(_ parts: Parts) -> Decoder { parts.decoder }

  /// What the conversation has used so far.
  private struct Session {
    var textRows = 0
    var images = 0
    /// Rows of images in front of what pruning drops.
    var visualRows = 0
    /// The last token of an answer that was cut off: sampled, not yet run.
    var pending: Int32?
  }

  /// - Parameters:
  ///   - fit: how images are made square; nil: as the checkpoint says.
  ///   - isa: the kernels by name; nil: the best this CPU has.
  ///   - readAhead: how weights are brought in; nil: the best this kernel has.
  ///   - process: what the process takes beside the runtime; nil: as measured now.
  public init(
    _ file: consuming ModelFile, limits: Limits, fit: ImagePreprocessing.Fit? = nil,
    sampling: Sampling = Sampling(), isa: String? = nil, readAhead: FilePages.Method? = nil,
    process: ProcessMemory? = nil
  ) throws(RuntimeError) {
    let table = try kernelTable(isa)
    let tokenizer = try Engine.tokenizer(of: file)
    var config = file.config
    if let fit, let vision = config.vision {
      guard !vision.isTiled else { throw .fitOfTiles }
      config.vision!.preprocessing = vision.preprocessing.with(fit: fit, side: vision.imageSize)
    }
    let sizes = ModelSizes(file, maxPieceBytes: tokenizer.maxPieceByteCount)
    let process = process ?? ProcessMemory.measured(frontByteCount: sizes.frontByteCount)
    let memory = try Plan(sizes, limits: limits, process: process)
    if let cap = limits.memoryCap, !memory.fits {
      throw .doesNotFit(
        cap: cap, smallest: memory.smallestCapBytes,
        remedies: Plan.remedies(sizes, limits: limits, process: process))
    }
    let plan = memory.arena
    let arena = try Arena(byteCount: plan.arenaByteCount)
    let binding = Binding(file)
    let stream = WeightStream(
      memory.residency, file.pages, method: readAhead,
      dropsCache: memory.dropsCache(SystemMemory()),
      locks: limits.locksWeights)
    bindCallingThread(threadCount: limits.threadCount)
    pool = ThreadPool(threadCount: limits.threadCount)
    let operations = Operations(kernels: table.pointee, pool: pool, plan: plan, arena: arena)
    let decoder = Decoder(
      config: config.text, weights: binding.text(plan, arena), stream: stream,
      operations: operations,
      plan: plan, arena: arena)
    let encoder = VisionEncoder(
      config, weights: binding.vision(), stream: stream, operations: operations, memory: memory,
      arena: arena)
    cache = KVArena(plan, text: config.text, arena: arena)
    sampler = Sampler(
      sampling, seen: arena.buffer(plan.seen), candidates: arena.buffer(plan.candidates),
      kernels: table.pointee)
    // Here and not where they are declared: Swift 6.0.3's compiler crashes on initial values in a noncopyable struct.
    session = Session()
    schedule = .none
    entering = (0, 0, 0)
    visual = VisualRows(
      spans: arena.buffer(plan.visualSpans), origins: arena.buffer(plan.visualOrigins),
      tokenCount: config.vision?.visualTokenCount ?? 0)
    textBuffer = arena.buffer(plan.text)
    embeddingRow = arena.buffer(plan.embeddingRow)
    parts = Parts(
      config: config, memory: memory, stream: stream, operations: operations, encoder: encoder,
      decoder: decoder)
    self.tokenizer = tokenizer
    self.isa = String(cString: table.pointee.isa)
    self.file = file
    self.arena = arena
  }

  /// The tokenizer that the file holds, as views of it.
  public static func tokenizer(of file: borrowing ModelFile) throws(RuntimeError) -> Tokenizer {
    try tokenizer(file.tokenizerSection, vocabSize: file.config.text.vocabSize)
  }

  /// `bytes`: a tokenizer section, which must outlive the tokenizer.
  public static func tokenizer(
    _ bytes: UnsafeRawBufferPointer, vocabSize: Int
  ) throws(RuntimeError) -> Tokenizer {
    do {
      let section = try TokenizerSection(bytes, vocabSize: vocabSize)
      return Tokenizer(TokenizerTables(section))
    } catch {
      throw .tokenizer(error)
    }
  }

  /// Bytes of weights brought into memory since the start.
  public var loadedWeightBytes: Int { stream.loadedBytes }

  /// Forgets the conversation; the memory stays.
  public mutating func reset() {
    cache.removeAll()
    sampler.forgetAll()
    session = Session()
  }

  /// Reads an image's header: whether a turn could show it.
  public func checkImage(_ path: String) throws(RuntimeError) {
    guard config.vision != nil else { throw .modelTakesNoImages }
    guard session.images < plan.limits.imageCount else {
      throw .tooManyImages(needed: session.images + 1, limit: plan.limits.imageCount)
    }
    do {
      _ = try OpenImage(path: path, limits: plan.limits.image(codecBytes: memory.codecByteCount))
    } catch {
      throw .image(error)
    }
  }

  /// Runs one turn behind what the session already holds.
  ///
  /// `emit` gets whole UTF-8 characters, in a buffer of the arena that lives for the call. An error before the first
  /// token (an image that cannot be read, a prompt that does not fit) leaves the session as it was.
  public mutating func generate(
    _ request: Request, emit: (UnsafeBufferPointer<UInt8>) -> Void
  ) throws(RuntimeError) -> Generation {
    let start = ProcessStatus.monotonicMilliseconds
    var result = Generation()
    // The last of what allocates: from here on only the image codecs do.
    result.tokens.reserveCapacity(min(request.maxTokens, plan.limits.contextRows))
    _ = ProcessStatus.millisecondsSinceStart
    let rows = try layOut(request, &result)
    let prefillStart = ProcessStatus.monotonicMilliseconds
    var logits = try prefill(rows)
    commit(request, rows: rows, &result)
    request.inspectLogits?(UnsafeBufferPointer(logits))
    let prefillEnd = ProcessStatus.monotonicMilliseconds
    result.prefillMilliseconds = prefillEnd - prefillStart
    var stream = TextStream(tokenizer, buffer: textBuffer)
    while true {
      guard let token = sampler.next(logits) else {
        let position = Int(cache.layers[0].nextPosition) - 1
        reset()
        throw .nonFiniteLogits(position: position)
      }
      if result.tokens.isEmpty {
        result.firstTokenMilliseconds = ProcessStatus.monotonicMilliseconds - start
        result.processToFirstTokenMilliseconds = ProcessStatus.millisecondsSinceStart
      }
      if config.specialTokens.end.contains(token) {
        result.finishReason = .stop
        break
      }
      sampler.note(token)
      result.tokens.append(token)
      emit(stream.next(token))
      if result.tokens.count >= request.maxTokens || session.textRows >= plan.limits.contextRows {
        result.finishReason = .length
        session.pending = token
        break
      }
      logits = try step(token)
    }
    emit(stream.finish())
    result.decodeMilliseconds = ProcessStatus.monotonicMilliseconds - prefillEnd
    return result
  }

  /// Prunes from the next turn on as `pruning` says, without loading the model anew.
  ///
  /// Throws if the plan has no room for it: `Limits.alternatives` names what a session may change to.
  public mutating func setPruning(_ pruning: Pruning) throws(RuntimeError) {
    guard plan.limits.prunings.contains(pruning) else { throw .pruningNotPlanned }
    decoder.pruner.pruning = pruning
  }

  /// How the session prunes.
  public var pruning: Pruning { decoder.pruner.pruning }

  /// What the stages of the last turn did; empty where nothing was pruned. Allocates.
  public var pruningStages: [PruningStage] { decoder.pruner.records.stages }

  /// What the stages of the last turn took.
  public var pruningCost: PruningCost { decoder.pruner.records.cost }

  /// Rows in every layer's cache.
  package var cachedRows: [Int] { cache.layers.map(\.count) }

  /// Takes a turn into the session without an answer.
  package mutating func prefill(_ request: Request) throws(RuntimeError) {
    var result = Generation()
    let rows = try layOut(request, &result)
    _ = try prefill(rows)
    commit(request, rows: rows, &result)
  }

  private mutating func prefill(_ rows: Int) throws(RuntimeError)
    -> UnsafeMutableBufferPointer<Float>
  {
    do {
      return try decoder.forward(rows, &cache, schedule: schedule, visual: visual)
    } catch {
      // Some layers have rows that others lack.
      reset()
      throw error
    }
  }

  /// One decode step without text: a token goes in, the sampler's choice comes out, whatever it is.
  package mutating func decode(_ token: Int32) throws(RuntimeError) -> Int32 {
    guard let next = sampler.next(try logits(after: token)) else {
      throw .nonFiniteLogits(position: session.textRows - 1)
    }
    return next
  }

  /// The logits behind a token that takes the next row; they last until the next call.
  mutating func logits(after token: Int32) throws(RuntimeError)
    -> UnsafeMutableBufferPointer<Float>
  {
    let limit = plan.limits.contextRows
    guard session.textRows < limit else {
      throw .promptTooLong(neededRows: 1, freeRows: 0, contextRows: limit)
    }
    return try step(token)
  }

  /// Checks the request, then fills the decoder's first rows with embeddings. Returns how many.
  private mutating func layOut(_ request: Request, _ result: inout Generation) throws(RuntimeError)
    -> Int
  {
    let imageToken = config.specialTokens.image
    let places = imageToken < 0 ? 0 : request.tokens.reduce(0) { $0 + ($1 == imageToken ? 1 : 0) }
    guard request.images.isEmpty || encoder != nil || config.vision != nil else {
      throw .modelTakesNoImages
    }
    guard places == request.images.count else {
      throw .imageCount(placeholders: places, images: request.images.count)
    }
    guard session.images + places <= plan.limits.imageCount else {
      throw .tooManyImages(needed: session.images + places, limit: plan.limits.imageCount)
    }
    let textRows = request.tokens.count - places + (session.pending == nil ? 0 : 1)
    let free = plan.limits.contextRows - session.textRows
    guard request.tokens.count > 0 else { throw .emptyPrompt }
    // One row stays for the answer.
    guard textRows < free else {
      throw .promptTooLong(
        neededRows: textRows + 1, freeRows: free, contextRows: plan.limits.contextRows)
    }
    if request.tokens.last == imageToken, places > 0, decoder.pruner.pruning.prunes {
      throw .prunedPromptEndsWithImage
    }
    try planPruning(request, &result)
    var row = 0
    var image = 0
    visual.removeAll()
    decoder.pruner.records.removeAll()
    let encodes = request.encodedImages.count < places
    if encodes { stream.beginEncoding() }
    defer {
      if encodes { endEncoding() }
    }
    if let pending = session.pending {
      try place(pending, at: row)
      visual.origins[row] = 0
      row += 1
    }
    for token in request.tokens {
      if token == imageToken && imageToken >= 0 {
        if image < request.encodedImages.count {
          row += place(encoded: request.encodedImages[image], at: row, &result)
        } else {
          row += try place(imageAt: request.images[image], at: row, &result)
        }
        image += 1
      } else {
        try place(token, at: row)
        visual.origins[row] = 0
        row += 1
      }
    }
    return row
  }

  private func place(_ token: Int32, at row: Int) throws(RuntimeError) {
    guard token >= 0 && Int(token) < config.text.vocabSize else {
      throw .tokenOutOfRange(id: token, vocabSize: config.text.vocabSize)
    }
    try embed(token, at: row)
  }

  private func embed(_ token: Int32, at row: Int) throws(RuntimeError) {
    try decoder.weights.embedding.gather(
      Int(token), into: decoder.hidden[row], buffer: embeddingRow, file.pages, operations.kernels)
  }

  /// The prompt is in the cache: from here on the session has moved.
  private mutating func commit(_ request: Request, rows: Int, _ result: inout Generation) {
    session.textRows += rows - result.visualRows
    session.visualRows += result.visualRows
    session.images += request.images.count
    session.pending = nil
    for token in request.tokens where token != config.specialTokens.image { sampler.note(token) }
    result.prefilledTokens = rows
    result.promptTokens = session.textRows + session.visualRows
  }

  /// One decode step: a row behind the others, at the next position.
  private mutating func step(_ token: Int32) throws(RuntimeError)
    -> UnsafeMutableBufferPointer<Float>
  {
    do {
      try embed(token, at: 0)
      session.textRows += 1
      return try decoder.forward(1, &cache)
    } catch {
      reset()
      throw error
    }
  }
}
