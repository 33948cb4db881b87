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

/// Most visual tokens of one image before it is pruned.
enum ImageTokens: ExpressibleByArgument, Equatable {
  case count(Int)
  /// As many as the checkpoint's own processor makes.
  case checkpoint

  init?(argument: String) {
    if argument == "checkpoint" {
      self = .checkpoint
    } else {
      guard let count = Int(argument), (1...(1 << 20)).contains(count) else { return nil }
      self = .count(count)
    }
  }
}

/// How memory is used.
struct MemoryOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Whether decoder weights are read from the file each time they are needed: auto (those that do not fit under the cap), on (all) or off (none; the file is left to the kernel).",
      valueName: "mode", visibility: .hidden))
  var stream = StreamMode.auto

  @Flag(help: ArgumentHelp("Lock the weights that stay in memory (mlock).", visibility: .hidden))
  var lock = false

  @Option(
    help: ArgumentHelp(
      "Memory for decoding images (default: what is needed later anyway, at least 8MiB).",
      valueName: "size", visibility: .hidden))
  var codecMemory: ByteCount?

  mutating func validate() throws {
    guard !(stream == .off && lock) else {
      throw ValidationError("--lock cannot be used with --stream off")
    }
    try require(
      codecMemory.map { Limits.codecBytes.contains($0.value) } ?? true, "--codec-memory",
      "1MiB to 1GiB", what: "a size")
  }

  func set(_ limits: inout Limits) {
    limits.stream = stream
    limits.locksWeights = lock
    limits.codecBytes = codecMemory?.value
  }
}

/// Refuses an option's value.
func require(
  _ holds: Bool, _ option: String, _ range: String, what: String = "a whole number"
) throws {
  guard holds else { throw ValidationError("\(option) takes \(what) from \(range)") }
}

/// Refuses a number out of its range.
func require(_ value: Int?, _ range: ClosedRange<Int>, _ option: String) throws {
  try require(
    value.map(range.contains) ?? true, option, "\(range.lowerBound) to \(range.upperBound)")
}

/// How long a session may be, and how it computes.
struct RowOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Text tokens of the whole session, answers included (default: 1024, or what the model has; for bench: what is measured).",
      valueName: "n", visibility: .hidden))
  var context: Int?

  @Option(
    help: ArgumentHelp(
      "Most pixels of one image; larger ones are refused before they are decoded.",
      valueName: "n", visibility: .hidden))
  var maxImagePixels = Limits().maxImagePixels

  @Option(
    help: ArgumentHelp(
      "Most tiles of one image, besides the one that shows it whole, for models that cut images into tiles: fewer take less time and fewer tokens (default: as in the checkpoint).",
      valueName: "n", visibility: .hidden))
  var maxTiles: Int?

  @Option(
    help: ArgumentHelp(
      "Keys and values in memory (default: f16; f32 with --compute f32).",
      valueName: "kind", visibility: .hidden))
  var kv: KVKind?

  @Option(
    help: ArgumentHelp(
      "Arithmetic: auto (as each tensor is stored), f32 (exact and slow), or quantized (like auto, but refuses a model with floating-point matrices).",
      valueName: "kind", visibility: .hidden))
  var compute = Compute.auto

  mutating func validate() throws {
    try require(context, Limits.contextRows, "--context")
    try require(maxImagePixels, Limits.maxImagePixels, "--max-image-pixels")
    try require(maxTiles, 1...(1 << 16), "--max-tiles")
  }
}

/// What the plan must be told, but for pruning.
struct RoomOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Most tokens of one answer.", valueName: "n"))
  var maxTokens = 256

  @Option(
    help: ArgumentHelp("Threads (default: the big cores this process may use).", valueName: "n"))
  var threads: Int?

  @Option(
    help: ArgumentHelp(
      "Most memory that the process may have resident: 1GiB, 256MiB or bytes; auto: what is available (default: no cap).",
      valueName: "size"))
  var memoryCap: MemoryCap?

  @Option(
    help: ArgumentHelp(
      "Most visual tokens of one image, which is made smaller: a number, or checkpoint (default: 1280 for SmolVLM and Qwen-VL, else checkpoint).",
      valueName: "n"))
  var imageTokens: ImageTokens?

  @OptionGroup(title: "Session") var rows: RowOptions
  @OptionGroup(title: "Memory") var memory: MemoryOptions

  mutating func validate() throws {
    try require(maxTokens, Limits.maxTokens, "--max-tokens")
    try require(threads, Limits.threadCount, "--threads")
    guard rows.maxTiles == nil || imageTokens == nil else {
      throw ValidationError("--max-tiles cannot be used with --image-tokens")
    }
  }

  /// Refuses a cap above what this machine has: for whoever runs here, and does not plan for another one.
  func checkCap() throws {
    let system = SystemMemory()
    // A group's limit is a whole number of pages, rounded down from what was asked for.
    let limit = system.groupLimitBytes.map { $0 + FilePages.pageByteCount - 1 }
    let total = min(system.totalBytes, limit ?? system.totalBytes)
    if case .bytes(let cap) = memoryCap, total > 0, cap.value > total {
      throw ValidationError(
        "--memory-cap \(cap.value) is more than this machine has: \(total) bytes")
    }
  }

  var context: Int? {
    get { rows.context }
    set { rows.context = newValue }
  }

  /// The model, with images as small as `--image-tokens` and `--max-tiles` ask for.
  func open(_ path: String) throws -> ModelFile {
    var file = try openModel(path)
    file.vision = try limited(file.config.vision)
    return file
  }

  /// The vision half with images as small as asked for. Refuses a limit that no image can keep to.
  func limited(_ vision: VisionConfig?) throws -> VisionConfig? {
    if let maxTiles = rows.maxTiles { return try limited(vision, tiles: maxTiles) }
    guard var limited = vision else { return nil }
    switch imageTokens {
    case .checkpoint: break
    case nil:
      if let usual = limited.usualTokenLimit {
        _ = limited.limitImages(tokens: max(usual, limited.fewestTokens))
      }
    case .count(let count):
      guard limited.limitImages(tokens: count) else {
        throw ValidationError(
          "--image-tokens \(count), but an image of this model has \(limited.fewestTokens) or more")
      }
    }
    return limited
  }

  private func limited(_ vision: VisionConfig?, tiles count: Int) throws -> VisionConfig? {
    guard var limited = vision, let least = limited.fewestTiles else {
      throw ValidationError("--max-tiles \(count), but the model does not cut images into tiles")
    }
    guard limited.limitImages(tiles: count) else {
      throw ValidationError(
        "--max-tiles \(count), but each of the model's resolutions has \(least) tiles or more")
    }
    return limited
  }

  /// What the limits on images are called where answers are kept apart by them.
  var imageLimits: String {
    if let maxTiles = rows.maxTiles { return " tiles=\(maxTiles)" }
    return switch imageTokens {
    case nil: ""
    case .checkpoint: " image-tokens=checkpoint"
    case .count(let count): " image-tokens=\(count)"
    }
  }

  /// Refuses `--compute quantized` for a file with a matrix that is not.
  func checkCompute(_ file: borrowing ModelFile) throws {
    guard rows.compute == .quantized, let name = file.firstFloatMatrix else { return }
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
    memory.set(&limits)
    switch memoryCap {
    case nil: break
    case .auto: limits.memoryCap = SystemMemory().availableBytes
    case .bytes(let cap): limits.memoryCap = cap.value
    }
    limits.imageCount = config.vision == nil ? 0 : imageCount
    let visualRows = limits.imageCount * (config.vision?.maxRowCount ?? 0)
    limits.contextRows = context ?? min(1024, max(2, config.text.maxPositions - visualRows))
    limits.maxImagePixels = rows.maxImagePixels
    limits.kv = rows.kv ?? (rows.compute == .f32 ? .f32 : .f16)
    limits.compute = rows.compute
    limits.threadCount = threads ?? min(Limits.threadCount.upperBound, defaultThreadCount())
    return limits
  }
}

struct ImageCountOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Images of the whole session (default: those given with --image, at least 1; in a chat what fits beside 512 text tokens, at most 4).",
      valueName: "n", visibility: .hidden))
  var images: Int?

  mutating func validate() throws {
    try require(images, Limits.imageCount, "--images")
  }
}

/// What the plan must be told.
@dynamicMemberLookup
struct SessionOptions: ParsableArguments {
  @OptionGroup var room: RoomOptions

  @OptionGroup(title: "Session") private var count: ImageCountOptions
  @OptionGroup var pruning: PruningOptions

  var images: Int? {
    get { count.images }
    set { count.images = newValue }
  }

  subscript<Value>(dynamicMember path: WritableKeyPath<RoomOptions, Value>) -> Value {
    get { room[keyPath: path] }
    set { room[keyPath: path] = newValue }
  }

  /// What fits beside 512 text rows into the model's positions, at most 4.
  private func chatImages(_ config: ModelConfig) -> Int {
    let rows = max(1, config.vision?.maxRowCount ?? 1)
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
