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

  /// The model with images made square in another way than the checkpoint says; nil: as it says.
  func with(fit: ImagePreprocessing.Fit?) throws(RuntimeError) -> ModelSizes {
    guard let fit, let vision = config.vision else { return self }
    guard let fitted = vision.with(fit: fit) else { throw .fitOfTiles }
    var changed = self
    changed.config.vision = fitted
    return changed
  }

  /// The model whose images have the fewest tokens that they can have, and how many these are; nil where it is that
  /// already.
  var withFewestTokens: (model: ModelSizes, count: Int)? {
    guard let vision = config.vision else { return nil }
    var changed = self
    _ = changed.config.vision?.limitImages(tokens: vision.fewestTokens)
    guard changed != self, changed.config.vision?.maxRowCount != vision.maxRowCount else {
      return nil
    }
    return (changed, vision.fewestTokens)
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

  /// Throws where a limit is out of its range, or asks for more than the model has.
  public init(_ model: ModelSizes, limits: Limits, process: ProcessMemory) throws(RuntimeError) {
    try limits.validate()
    try Self.checkPruning(model.config, limits)
    let phases = PhasePlan(model, limits: limits, process: process)
    var smallest = Int.max
    var chosen: PhasePlan.Candidate?
    for chunkRows in limits.chunkSizes {
      let arena = try ArenaLayout(
        model.config, model.tensors, limits: limits, maxPieceBytes: model.maxPieceBytes,
        chunkRows: chunkRows)
      smallest = min(smallest, phases.leanest(arena).peak)
      if chosen.map({ !$0.fits(limits.memoryCap) }) ?? true { chosen = phases.best(arena) }
    }
    self.init(chosen!, limits, fileByteCount: model.fileByteCount, smallestCapBytes: smallest)
  }

  /// Refuses ways to prune that the model does not have.
  private static func checkPruning(
    _ config: ModelConfig, _ limits: Limits
  ) throws(RuntimeError) {
    for pruning in limits.prunings where pruning.prunes { try check(pruning, config) }
  }

  fileprivate static func check(
    _ pruning: Pruning, _ config: ModelConfig
  ) throws(RuntimeError) {
    if !config.text.ropeSections.isEmpty, pruning.positions == .compact { throw .positionsStay }
    guard let vision = config.vision, pruning.method.zips else { return }
    guard vision.canReduce(by: pruning.method) else {
      throw .encoderKeepsAll(method: pruning.method.rawValue)
    }
    guard vision.towerHasClassToken || pruning.patchScore != .cls else { throw .noClassToken }
  }

  private init(
    _ chosen: PhasePlan.Candidate, _ limits: Limits, fileByteCount: Int, smallestCapBytes: Int
  ) {
    self.limits = limits
    self.fileByteCount = fileByteCount
    self.smallestCapBytes = smallestCapBytes
    arena = chosen.arena
    phases = chosen.phases
    codecByteCount = chosen.codecBytes
    residency = chosen.residency
  }
}

extension ModelConfig {
  /// Whether the model has this way to prune, whatever the budget.
  public func allows(_ pruning: Pruning) -> Bool {
    do throws(RuntimeError) { try Plan.check(pruning, self) } catch { return false }
    return true
  }
}
