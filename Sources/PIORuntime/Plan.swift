import PIOBase
import PIOFormat

/// The numbers of a model file that the plan depends on.
public struct ModelSizes: Equatable, Sendable {
  public private(set) var config: ModelConfig
  public let tensors: [TensorEntry]
  /// Header, directory, metadata, tokenizer.
  public let frontByteCount: Int
  public let fileByteCount: Int
  /// Of the longest piece of text that a token stands for.
  public let maxPieceBytes: Int

  /// A file that is not written yet.
  public init(_ layout: ModelLayout, config: ModelConfig, maxPieceBytes: Int) {
    self.config = config
    tensors = layout.tensors
    frontByteCount = layout.tensors[0].offset
    fileByteCount = layout.byteCount
    self.maxPieceBytes = maxPieceBytes
  }

  public init(_ file: borrowing ModelFile, maxPieceBytes: Int) {
    config = file.config
    tensors = file.tensors
    frontByteCount = file.frontByteCount
    fileByteCount = file.byteCount
    self.maxPieceBytes = maxPieceBytes
  }

  /// Makes images square in another way.
  mutating func fit(_ fit: ImagePreprocessing.Fit) throws(RuntimeError) {
    guard case .llava(var llava) = config.vision else {
      if config.vision == nil { return }
      throw .fitOfTiles
    }
    llava.preprocessing = llava.preprocessing.with(fit: fit, side: llava.tower.imageSize)
    config.vision = .llava(llava)
  }

  /// The model with the resolutions of the fewest tiles alone, and how many these are; nil where it has no others.
  var withFewestTiles: (model: ModelSizes, count: Int)? {
    guard let least = config.vision?.fewestTiles else { return nil }
    var changed = self
    _ = changed.config.vision?.keepResolutions(ofTiles: least)
    return changed == self ? nil : (changed, least)
  }
}

/// Every byte that the process will have in memory, before the first one is used: a pure function of the model's
/// numbers, the limits and what the process takes before it begins.
///
/// A session goes through three phases that share their memory: an image is decoded, it is encoded, the decoder runs.
/// The peak is the largest of them, not their sum.
public struct Plan: Equatable, Sendable {
  public struct Part: Equatable, Sendable {
    public let name: String
    public let bytes: Int
  }

  public struct Phase: Equatable, Sendable {
    public let name: String
    public let parts: [Part]
    public var bytes: Int { parts.reduce(0) { $0 + $1.bytes } }
  }

  public let limits: Limits
  public let arena: ArenaLayout
  public let phases: [Phase]
  /// The least cap under which these limits can be kept.
  public let smallestCapBytes: Int
  /// Bound of the image codecs' heap.
  public let codecByteCount: Int
  let residency: Residency
  let fileByteCount: Int

  /// The phase that needs most.
  public var peak: Phase { phases.max { $0.bytes < $1.bytes }! }
  public var peakBytes: Int { peak.bytes }
  public var fits: Bool { limits.memoryCap.map { peakBytes <= $0 } ?? true }
  /// Bytes of weights that each token reads anew.
  public var streamedBytesPerToken: Int { residency.streamedBytes }
  /// Bytes of decoder weights that stay in memory.
  public var residentWeightBytes: Int { residency.residentBytes }

  /// Whether what is dropped should leave the page cache too: under a cap, where memory is too short to keep the file
  /// there. Elsewhere the cache serves the next pass and takes nothing from anybody.
  func dropsCache(_ system: SystemMemory) -> Bool {
    limits.memoryCap != nil && system.availableBytes < fileByteCount + peakBytes
  }

  /// Row counts that a prefill may go through a layer in: the most that fits is taken.
  static let chunkSizes = [128, 64, 32, 16]

  public init(_ model: ModelSizes, limits: Limits, process: ProcessMemory) throws(RuntimeError) {
    let units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
    let maker = Maker(model: model, limits: limits, process: process, units: units)
    var smallest: Int?
    var chosen: Candidate?
    for chunkRows in Self.chunkSizes {
      let arena = try ArenaLayout(
        model.config, encodings: model.tensors.map(\.encoding), limits: limits,
        maxPieceBytes: model.maxPieceBytes, chunkRows: chunkRows)
      let least = maker.candidate(arena, cap: 0)
      smallest = min(smallest ?? Int.max, least.peak)
      guard chosen == nil else { continue }
      let candidate = maker.candidate(arena, cap: limits.memoryCap)
      let isLast = chunkRows == Self.chunkSizes.last
      if isLast || limits.memoryCap.map({ candidate.peak <= $0 }) ?? true { chosen = candidate }
    }
    self.limits = limits
    fileByteCount = model.fileByteCount
    arena = chosen!.arena
    phases = chosen!.phases
    codecByteCount = chosen!.codecBytes
    residency = chosen!.residency
    smallestCapBytes = smallest!
  }

  /// Changes of the limits that would bring the need under the cap, or, where none does alone, all that lower it.
  public static func remedies(_ model: ModelSizes, limits: Limits, process: ProcessMemory)
    -> [String]
  {
    guard let cap = limits.memoryCap else { return [] }
    func smallest(_ model: ModelSizes, _ limits: Limits) -> Int {
      (try? Plan(model, limits: limits, process: process))?.smallestCapBytes ?? Int.max
    }
    var leanest = model
    var found: [(text: String, smallest: Int)] = []
    var all = limits
    func tryChange(_ text: String, _ change: (inout Limits) -> Void) {
      var changed = limits
      change(&changed)
      change(&all)
      if changed != limits { found.append((text, smallest(model, changed))) }
    }
    if limits.stream == .off { tryChange("--stream auto") { $0.stream = .auto } }
    if limits.kv != .int8 { tryChange("--kv int8") { $0.kv = .int8 } }
    if let vision = model.config.vision, limits.imageCount > 0, !limits.pruning.prunes {
      let count = max(1, vision.maxVisualTokenCount / 9)
      tryChange("--visual-tokens \(count)") {
        $0.pruning.budget = .average(count)
        if $0.pruning.method == .none { $0.pruning.method = Pruning().method }
      }
    }
    if let fewer = model.withFewestTiles, limits.imageCount > 0 {
      leanest = fewer.model
      found.append(("--max-tiles \(fewer.count)", smallest(leanest, limits)))
    }
    if limits.contextRows >= 512 {
      let rows = limits.contextRows / 4
      tryChange("--context \(rows)") { $0.contextRows = rows }
    }
    if limits.imageCount > 1 { tryChange("--images 1") { $0.imageCount = 1 } }
    if model.config.vision != nil, limits.imageCount > 0 {
      if limits.codecBytes ?? Limits.minCodecBytes > 1 << 20 {
        tryChange("--codec-memory 1MiB") { $0.codecBytes = 1 << 20 }
      }
      if limits.maxImagePixels > 4_000_000 {
        tryChange("--max-image-pixels 1000000") { $0.maxImagePixels = 1_000_000 }
      }
    }
    let now = smallest(model, limits)
    let enough = found.filter { $0.smallest <= cap }
    if !enough.isEmpty { return enough.map(\.text) }
    let helpful = found.filter { $0.smallest < now }.map(\.text)
    return helpful.isEmpty
      ? [] : [helpful.joined(separator: " ") + " (together \(smallest(leanest, all)) bytes)"]
  }
}

/// One way to lay out the memory.
private struct Candidate {
  let arena: ArenaLayout
  let residency: Residency
  let phases: [Plan.Phase]
  let codecBytes: Int
  var peak: Int { phases.map(\.bytes).max()! }
}

private struct Maker {
  let model: ModelSizes
  let limits: Limits
  let process: ProcessMemory
  let units: WeightUnits

  /// The best residency under `cap`; 0: the one that needs least.
  func candidate(_ arena: ArenaLayout, cap: Int?) -> Candidate {
    let always = alwaysThere(arena)
    let base = always.reduce(0) { $0 + $1.bytes }
    let kv = Plan.Part(name: "KV cache", bytes: arena.kvByteCount)
    let imageKV = limits.isConversation ? kv.bytes : 0
    let decoderScratch = arena.decoderEnd - arena.sharedEnd
    let encoderScratch = arena.visionEnd - arena.sharedEnd
    let imageScratch = arena.imageEnd - arena.sharedEnd
    let isLeast = cap == 0
    let residency =
      limits.stream == .off
      ? Residency.plain(units)
      : Residency(
        fitting: units,
        decoderFree: cap.map { $0 - base - kv.bytes - decoderScratch },
        encoderFree: cap.map { $0 - base - imageKV - encoderScratch },
        imageFree: cap.map {
          $0 - base - imageKV - imageScratch - (limits.codecBytes ?? Limits.minCodecBytes)
        },
        usesHeadInside: limits.prunings.contains { $0.prunes && $0.method.readsHead },
        isConversation: limits.isConversation,
        streamsAll: limits.stream == .on || isLeast)
    // Mapped plainly, nothing is given back: what one phase read the next one still has.
    let isPlain = residency.isPlain
    let towerInDecoder = isPlain ? residency.visionBytes : 0
    let decoder = Plan.Phase(
      name: "decoder",
      parts: always + [
        kv, .init(name: "decoder scratch", bytes: decoderScratch),
        .init(name: "vision weights", bytes: towerInDecoder),
        .init(name: "resident weights", bytes: residency.residentBytes),
        .init(name: "streamed weights, two units", bytes: residency.windowBytes),
      ])
    guard model.config.vision != nil, limits.imageCount > 0 else {
      return Candidate(arena: arena, residency: residency, phases: [decoder], codecBytes: 0)
    }
    let kept = limits.isConversation ? residency.residentWhileEncodingBytes : 0
    let encoder = Plan.Phase(
      name: "encoder",
      parts: always + [
        .init(name: "KV cache", bytes: imageKV),
        .init(name: "encoder scratch", bytes: encoderScratch),
        .init(name: "vision weights", bytes: residency.visionBytes),
        .init(name: "resident weights", bytes: kept),
      ])
    let towerInImage =
      isPlain && (limits.isConversation || limits.imageCount > 1) ? residency.visionBytes : 0
    let rest =
      always + [
        .init(name: "KV cache", bytes: imageKV),
        .init(name: "image buffers", bytes: imageScratch),
        .init(name: "vision weights", bytes: towerInImage),
        .init(name: "resident weights", bytes: kept),
      ]
    let others = max(decoder.bytes, encoder.bytes) - rest.reduce(0) { $0 + $1.bytes }
    let codec =
      limits.codecBytes ?? min(Limits.maxCodecBytes, max(Limits.minCodecBytes, others))
    let image = Plan.Phase(
      name: "image", parts: rest + [.init(name: "image codec, at most", bytes: codec)])
    return Candidate(
      arena: arena, residency: residency, phases: [image, encoder, decoder], codecBytes: codec)
  }

  /// What is in memory in every phase.
  private func alwaysThere(_ arena: ArenaLayout) -> [Plan.Part] {
    let helpers = limits.stream == .off ? 0 : 1
    var parts: [Plan.Part] = [
      .init(name: "process: code, libraries, heap", bytes: process.baseBytes),
      .init(name: "tokenizer and directory", bytes: model.frontByteCount),
      .init(
        name: "thread stacks",
        bytes: (limits.threadCount - 1 + helpers) * ProcessMemory.threadBytes),
      // The text or the line of JSON around it, two copies, four bytes a token.
      .init(name: "prompt text", bytes: 4 * textBytes),
      .init(name: "activations", bytes: arena.sharedEnd - arena.kvByteCount),
    ]
    if usesBLAS {
      parts.append(
        .init(
          name: "OpenBLAS",
          bytes: ProcessMemory.blasBytes + limits.threadCount * ProcessMemory.blasBytesPerThread))
    }
    return parts
  }

  private var textBytes: Int {
    limits.isConversation
      ? limits.maxLineBytes(maxPieceBytes: model.maxPieceBytes)
      : limits.maxTextBytes(maxPieceBytes: model.maxPieceBytes)
  }

  /// Whether any product runs in f32 on many rows.
  private var usesBLAS: Bool {
    model.tensors.contains {
      $0.spec.role == .matrix && (limits.compute == .f32 || !$0.encoding.kind.isQuantized)
    }
  }
}
