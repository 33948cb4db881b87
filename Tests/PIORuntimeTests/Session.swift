import Foundation
import PIOFormat

@testable import PIORuntime

/// A runtime with one conversation, which is what most tests need.
struct Session: ~Copyable {
  let runtime: Runtime
  let slot: Slot

  init(_ runtime: Runtime, _ sampling: Sampling = Sampling()) throws {
    slot = try runtime.begin(sampling)
    self.runtime = runtime
  }

  var config: ModelConfig { runtime.config }
  var plan: Plan { runtime.plan }
  var loadedWeightBytes: Int { runtime.loadedWeightBytes }
  var maxTextBytes: Int { runtime.maxTextBytes }
  var pruningStages: [PruningStage] { runtime.pruningStages }
  var cachedRows: [Int] { runtime.cachedRows(slot) }

  func rawTokens(_ text: String, isFirst: Bool) throws -> [Int32] {
    try runtime.rawTokens(text, isFirst: isFirst)
  }

  func turnTokens(
    _ question: String, system: String?, imageCount: Int, isFirst: Bool
  ) throws(RuntimeError) -> [Int32] {
    try runtime.turnTokens(question, system: system, imageCount: imageCount, isFirst: isFirst)
  }

  mutating func reset() { runtime.reset(slot) }

  mutating func append(_ request: Request) throws -> Prefill {
    try runtime.append(request, to: slot)
  }

  mutating func generate(
    _ request: Request, emit: (UnsafeBufferPointer<UInt8>) -> Bool = { _ in true }
  ) throws -> Generation {
    try runtime.generate(slot, request, emit: emit)
  }

  /// The rows of an image as the decoder gets them, or so many of its tokens.
  ///
  /// Not inlined: Swift 6.0.3's compiler crashes on the plan's copy in the middle of a test.
  @inline(never)
  mutating func imageFeatures(_ path: String, tokenCount: Int? = nil) throws -> [Float] {
    try runtime.encode(.file(path), plan.limits.pruning, tokenCount: tokenCount).values
  }

  /// What is added to an image's tokens, level by level.
  @inline(never)
  mutating func deepstack(_ path: String) throws -> [ArraySlice<Float>] {
    let values = try runtime.encode(.file(path), plan.limits.pruning).deepstack
    let levels = config.vision?.deepstackCount ?? 0
    let count = values.count / max(1, levels)
    return (0..<levels).map { values[($0 * count)..<(($0 + 1) * count)] }
  }

  func visualLayout(_ path: String) throws -> VisualLayout {
    try runtime.visualLayout(path)
  }

  func visualRowCount(_ path: String) throws -> Int { try runtime.visualRowCount(.file(path)) }
}

extension Runtime {
  /// Not in `Session`: Swift 6.0.3's compiler stops over it there.
  fileprivate func visualLayout(_ path: String) throws -> VisualLayout {
    let image = try model.open(.file(path))
    return image.layout
  }
}

/// A runtime with room for a few short turns.
func makeSession(
  _ path: String, sampling: Sampling = Sampling(), _ change: (inout Limits) -> Void = { _ in }
) throws -> Session {
  let file = try ModelFile(path: path)
  var limits = Limits()
  limits.imageCount = file.config.vision == nil ? 0 : 2
  let visualRows = limits.imageCount * (file.config.vision?.maxRowCount ?? 0)
  limits.contextRows = min(160, file.config.text.maxPositions - visualRows)
  limits.threadCount = 2
  change(&limits)
  return try Session(Runtime(file, limits: limits), sampling)
}

/// The logits that follow `tokens`, and at most `count` tokens behind them.
func run(
  _ session: inout Session, _ tokens: [Int32], images: [String] = [], count: Int = 1
) throws -> (logits: [Float], generation: Generation) {
  var logits: [Float] = []
  var request = Request(tokens: tokens, images: images.map { .file($0) }, maxTokens: count)
  request.inspectLogits = { logits = Array($0) }
  let generation = try session.generate(request)
  return (logits, generation)
}
