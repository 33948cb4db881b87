import PIOBase
import ArgumentParser
import PIOFormat
import PIORuntime
import PIOThreads

extension Compute: ExpressibleByArgument {}
extension KVKind: ExpressibleByArgument {}
extension StreamMode: ExpressibleByArgument {}

/// How an image is made square.
enum Fit: String, ExpressibleByArgument, CaseIterable {
  case crop, pad

  var preprocessing: ImagePreprocessing.Fit { self == .crop ? .crop : .pad }
}

/// What the plan must be told, but for pruning.
struct RoomOptions: ParsableArguments {
  @Option(
    help:
      "Text rows of the whole session, generated ones included (default 1024, or what the model has; bench: what is measured)."
  )
  var context: Int?

  @Option(help: "Most tokens of one answer.")
  var maxTokens = 256

  @Option(help: "Most pixels of one image; larger ones are refused before they are decoded.")
  var maxImagePixels = Limits().maxImagePixels

  @Option(
    help: ArgumentHelp(
      "Most tiles that an image is cut into beside the one that shows it whole, by a model that does so: fewer take less time and fewer tokens (default: as the checkpoint has it).",
      valueName: "count"))
  var maxTiles: Int?

  @Option(
    help: "How keys and values are kept: f32, f16 or int8 (default f16; f32 with --compute f32).")
  var kv: KVKind?

  @Option(help: "Threads (default: the big cores this process may use).")
  var threads: Int?

  @Option(help: "Arithmetic: auto (each tensor its own), f32, or quantized.")
  var compute = Compute.auto

  @Option(
    help: ArgumentHelp(
      "Most memory that the process may have resident: 256MiB, KiB, GiB or plain bytes; auto: what is available (default: no cap).",
      valueName: "size"))
  var memoryCap: MemoryCap?

  @Option(
    help:
      "Weights that do not fit under the cap are read each time they are needed: auto, on (all of them) or off (none; the file is left to the kernel)."
  )
  var stream = StreamMode.auto

  @Flag(help: "Lock the weights that stay in memory (mlock).")
  var lock = false

  @Option(
    help: ArgumentHelp(
      "Memory that the image codecs may take (default: what is needed later anyway, at least 8MiB).",
      valueName: "size"))
  var codecMemory: ByteCount?

  mutating func validate() throws {
    let system = SystemMemory()
    // A group's limit is a whole number of pages, rounded down from what was asked for.
    let limit = system.groupLimitBytes.map { $0 + FilePages.pageByteCount - 1 }
    let total = min(system.totalBytes, limit ?? system.totalBytes)
    if case .bytes(let cap) = memoryCap, total > 0, cap.value > total {
      throw ValidationError(
        "--memory-cap \(cap.value) is more than there is: \(total) bytes")
    }
    guard !(stream == .off && lock) else {
      throw ValidationError(
        "--lock keeps what streaming would keep: it cannot be with --stream off")
    }
    try require(
      codecMemory.map { $0.value >= 1 << 20 && $0.value <= 1 << 30 } ?? true, "--codec-memory",
      "1MiB to 1GiB", what: "a size")
    try require(context.map { $0 >= 2 && $0 <= 1 << 24 } ?? true, "--context", "2 to 16777216")
    try require(maxTokens >= 1 && maxTokens <= 1 << 24, "--max-tokens", "1 to 16777216")
    try require(
      maxImagePixels >= 1 && maxImagePixels <= 1 << 31, "--max-image-pixels", "1 to 2147483648")
    try require(maxTiles.map { $0 >= 1 && $0 <= 1 << 16 } ?? true, "--max-tiles", "1 to 65536")
    try require(threads.map { $0 >= 1 && $0 <= 256 } ?? true, "--threads", "1 to 256")
  }

  private func require(
    _ holds: Bool, _ option: String, _ range: String, what: String = "a whole number"
  ) throws {
    guard holds else { throw ValidationError("\(option) takes \(what) from \(range)") }
  }

  /// The model, with the resolutions that `--max-tiles` leaves.
  func open(_ path: String) throws -> ModelFile {
    var file = try ModelFile(path: path)
    try checkTiles(file.config)
    if let maxTiles { _ = file.keepResolutions(ofTiles: maxTiles) }
    return file
  }

  /// Refuses `--max-tiles` where it would leave nothing, or says nothing.
  func checkTiles(_ config: ModelConfig) throws {
    guard let maxTiles else { return }
    guard let vision = config.vision, vision.isTiled else {
      throw ValidationError("--max-tiles \(maxTiles), but the model cuts no image into tiles")
    }
    let least = vision.resolutions.map(vision.tileCount).min()!
    guard least <= maxTiles else {
      throw ValidationError(
        "--max-tiles \(maxTiles), but each of the model's resolutions has \(least) tiles or more")
    }
  }

  /// Refuses `--compute quantized` for a file with a matrix that is not.
  func checkCompute(_ file: borrowing ModelFile) throws {
    guard compute == .quantized, let name = file.firstFloatMatrix else { return }
    throw ValidationError("--compute quantized, but \(name) is stored in floating point")
  }

  /// The limits for this model.
  ///
  /// - Parameters:
  ///   - imageCount: images of the whole session; none where the model takes none.
  ///   - isConversation: more than one turn may come.
  func limits(for config: ModelConfig, imageCount: Int, isConversation: Bool) -> Limits {
    var limits = Limits()
    limits.isConversation = isConversation
    limits.stream = stream
    limits.locksWeights = lock
    limits.codecBytes = codecMemory?.value
    switch memoryCap {
    case nil: break
    case .auto: limits.memoryCap = SystemMemory().availableBytes
    case .bytes(let cap): limits.memoryCap = cap.value
    }
    limits.imageCount = config.vision == nil ? 0 : imageCount
    let visualRows = limits.imageCount * (config.vision?.maxVisualRowCount ?? 0)
    limits.contextRows = context ?? min(1024, max(2, config.text.maxPositions - visualRows))
    limits.maxImagePixels = maxImagePixels
    limits.kv = kv ?? (compute == .f32 ? .f32 : .f16)
    limits.compute = compute
    limits.threadCount = threads ?? defaultThreadCount()
    return limits
  }
}

/// What the plan must be told.
@dynamicMemberLookup
struct SessionOptions: ParsableArguments {
  @OptionGroup var room: RoomOptions

  @Option(
    help:
      "Images of the whole session (default: those given with --image, at least 1; in a chat what fits beside 512 text rows, at most 4)."
  )
  var images: Int?

  @OptionGroup(title: "Visual tokens") var pruning: PruningOptions

  mutating func validate() throws {
    guard images.map({ $0 >= 0 && $0 <= 1024 }) ?? true else {
      throw ValidationError("--images takes a whole number from 0 to 1024")
    }
  }

  subscript<Value>(dynamicMember path: WritableKeyPath<RoomOptions, Value>) -> Value {
    get { room[keyPath: path] }
    set { room[keyPath: path] = newValue }
  }

  /// What fits beside 512 text rows into the model's positions, at most 4.
  private func chatImages(_ config: ModelConfig) -> Int {
    let rows = max(1, config.vision?.maxVisualRowCount ?? 1)
    return min(4, (config.text.maxPositions - min(512, room.context ?? 512)) / rows)
  }

  /// The limits for this model.
  ///
  /// - Parameters:
  ///   - given: images on the command line.
  ///   - isChat: room for several images.
  ///   - isConversation: more than one turn may come.
  func limits(
    for config: ModelConfig, images given: Int, isChat: Bool, isConversation: Bool, seed: UInt64
  ) throws -> Limits {
    var limits = room.limits(
      for: config, imageCount: images ?? max(1, given, isChat ? chatImages(config) : 1),
      isConversation: isConversation)
    limits.pruning = try pruning.pruning(for: config, seed: seed)
    return limits
  }
}

/// How tokens are chosen.
struct SamplingOptions: ParsableArguments {
  @Option(help: "0: always the most likely token; higher: more varied.")
  var temperature: Float = 0

  @Option(name: .customLong("top-k"), help: "Only the k most likely tokens; 0: all.")
  var topK = 0

  @Option(
    name: .customLong("top-p"), help: "Only the likeliest tokens that reach this probability.")
  var topP: Float = 1

  @Option(
    name: .customLong("min-p"),
    help: "Only tokens at least this fraction as likely as the likeliest.")
  var minP: Float = 0

  @Option(help: "Above 1: tokens already seen become less likely.")
  var repetitionPenalty: Float = 1

  @Option(help: "Seed of the random numbers; the same seed gives the same answer.")
  var seed: UInt64 = 0

  mutating func validate() throws {
    guard temperature >= 0, temperature.isFinite else {
      throw ValidationError("--temperature takes a number from 0")
    }
    guard topK >= 0 else { throw ValidationError("--top-k takes a whole number from 0") }
    guard topP > 0, topP <= 1 else {
      throw ValidationError("--top-p takes a number above 0, up to 1")
    }
    guard minP >= 0, minP <= 1 else { throw ValidationError("--min-p takes a number from 0 to 1") }
    guard repetitionPenalty > 0, repetitionPenalty.isFinite else {
      throw ValidationError("--repetition-penalty takes a number above 0")
    }
  }

  var sampling: Sampling {
    var sampling = Sampling()
    sampling.temperature = temperature
    sampling.topK = topK
    sampling.topP = topP
    sampling.minP = minP
    sampling.repetitionPenalty = repetitionPenalty
    sampling.seed = seed
    return sampling
  }
}
