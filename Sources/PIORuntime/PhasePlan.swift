import PIOFormat

/// Adds up what each phase of a session has in memory, for one layout of the arena at a time.
struct PhasePlan {
  /// One way to spend the memory.
  struct Candidate {
    let arena: ArenaLayout
    let residency: Residency
    let phases: [Plan.Phase]
    let codecBytes: Int

    var peak: Int { phases.map(\.bytes).max()! }

    func fits(_ cap: Int?) -> Bool { cap.map { peak <= $0 } ?? true }
  }

  private let model: ModelSizes
  private let limits: Limits
  private let process: ProcessMemory
  private let units: WeightUnits

  init(_ model: ModelSizes, limits: Limits, process: ProcessMemory) {
    self.model = model
    self.limits = limits
    self.process = process
    units = WeightUnits(model.config, model.tensors, fileByteCount: model.fileByteCount)
  }

  /// With no weight in memory that need not be there: what takes least.
  func leanest(_ arena: ArenaLayout) -> Candidate {
    candidate(arena, residency(in: nil, streamsAll: true))
  }

  /// With as many weights in memory as fit under the cap.
  func best(_ arena: ArenaLayout) -> Candidate {
    let room = limits.memoryCap.map { self.room(arena, under: $0) }
    return candidate(arena, residency(in: room, streamsAll: limits.stream == .on))
  }

  private func residency(in room: Residency.Room?, streamsAll: Bool) -> Residency {
    if limits.stream == .off { return .plain(units) }
    return Residency(
      fitting: units, in: room,
      usesHeadInside: limits.prunings.contains { $0.prunes && $0.method.readsHead },
      isConversation: limits.isConversation, streamsAll: streamsAll)
  }

  private func room(_ arena: ArenaLayout, under cap: Int) -> Residency.Room {
    let left = cap - alwaysThere(arena).reduce(0) { $0 + $1.bytes }
    return Residency.Room(
      decoder: left - arena.kvByteCount - arena.decoderScratch,
      encoder: left - earlierCache(arena) - arena.encoderScratch,
      image: left - earlierCache(arena) - arena.imageScratch
        - (limits.codecBytes ?? Limits.minCodecBytes))
  }

  // MARK: Phases

  private func candidate(_ arena: ArenaLayout, _ residency: Residency) -> Candidate {
    let decoder = decoderPhase(arena, residency)
    guard model.config.vision != nil, limits.imageCount > 0 else {
      return Candidate(arena: arena, residency: residency, phases: [decoder], codecBytes: 0)
    }
    let encoder = encoderPhase(arena, residency)
    let parts = imageParts(arena, residency)
    let others = max(decoder.bytes, encoder.bytes) - parts.reduce(0) { $0 + $1.bytes }
    let codec =
      limits.codecBytes ?? min(Limits.maxCodecBytes, max(Limits.minCodecBytes, others))
    let image = Plan.Phase(
      name: "image", parts: parts + [.init(name: "image codec, at most", bytes: codec)])
    return Candidate(
      arena: arena, residency: residency, phases: [image, encoder, decoder], codecBytes: codec)
  }

  private func decoderPhase(_ arena: ArenaLayout, _ residency: Residency) -> Plan.Phase {
    // Mapped plainly, nothing is given back: what one phase read the next one still has.
    let tower = residency.isPlain ? residency.visionBytes : 0
    return Plan.Phase(
      name: "decoder",
      parts: alwaysThere(arena) + [
        .init(name: "KV cache", bytes: arena.kvByteCount),
        .init(name: "decoder scratch", bytes: arena.decoderScratch),
        .init(name: "vision weights", bytes: tower),
        .init(name: "resident weights", bytes: residency.residentBytes),
        .init(name: "streamed weights, two units", bytes: residency.windowBytes),
      ])
  }

  private func encoderPhase(_ arena: ArenaLayout, _ residency: Residency) -> Plan.Phase {
    Plan.Phase(
      name: "encoder",
      parts: alwaysThere(arena) + [
        .init(name: "KV cache", bytes: earlierCache(arena)),
        .init(name: "encoder scratch", bytes: arena.encoderScratch),
        .init(name: "vision weights", bytes: residency.visionBytes),
        .init(name: "resident weights", bytes: earlierWeights(residency)),
      ])
  }

  /// All but the codec's memory.
  private func imageParts(_ arena: ArenaLayout, _ residency: Residency) -> [Plan.Part] {
    let hasEarlierImages = limits.isConversation || limits.imageCount > 1
    let tower = residency.isPlain && hasEarlierImages ? residency.visionBytes : 0
    return alwaysThere(arena) + [
      .init(name: "KV cache", bytes: earlierCache(arena)),
      .init(name: "image buffers", bytes: arena.imageScratch),
      .init(name: "vision weights", bytes: tower),
      .init(name: "resident weights", bytes: earlierWeights(residency)),
    ]
  }

  /// What earlier turns have left in memory when an image comes.
  private func earlierCache(_ arena: ArenaLayout) -> Int {
    limits.isConversation ? arena.kvByteCount : 0
  }

  private func earlierWeights(_ residency: Residency) -> Int {
    limits.isConversation ? residency.residentWhileEncodingBytes : 0
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

extension ArenaLayout {
  fileprivate var decoderScratch: Int { decoderEnd - sharedEnd }
  fileprivate var encoderScratch: Int { visionEnd - sharedEnd }
  fileprivate var imageScratch: Int { imageEnd - sharedEnd }
}
