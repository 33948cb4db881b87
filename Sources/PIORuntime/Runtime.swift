import PIOBase
import PIOFormat
import PIOText
import PIOVision

/// Runs a model for the conversations in its slots, one thread at a time.
///
/// It is not `Sendable`, so that the compiler keeps it where one thread at a time can use it. A class, as Swift 6.0.3
/// stops at accessors of a noncopyable struct with a member that holds views.
public final class Runtime {
  let model: Model
  private let slots: [SlotState]

  /// - Parameters:
  ///   - fit: how images are made square; nil: as the checkpoint says.
  ///   - isa: the kernels by name; nil: the best this CPU has.
  ///   - readAhead: how weights are brought in; nil: the best this kernel has.
  ///   - process: what the process takes beside the runtime; nil: as measured now.
  ///   - host: what may be done to the process.
  public init(
    _ file: consuming ModelFile, limits: Limits, fit: ImagePreprocessing.Fit? = nil,
    isa: String? = nil, readAhead: FilePages.Method? = nil, process: ProcessMemory? = nil,
    host: HostPolicy = .library
  ) throws(RuntimeError) {
    model = try Model(
      file,
      RuntimeOptions(
        limits: limits, fit: fit, isa: isa, readAhead: readAhead, process: process, host: host))
    slots = [
      SlotState(
        model.plan.arena, text: model.config.text, kernels: model.operations.kernels,
        arena: model.arena)
    ]
  }

  public var config: ModelConfig { model.config }
  public var plan: Plan { model.plan }
  public var tokenizer: Tokenizer { model.tokenizer }
  /// Name of the kernels in use.
  public var isa: String { model.isa }
  public var modelByteCount: Int { model.file.byteCount }
  /// Bytes of weights brought into memory since the start.
  public var loadedWeightBytes: Int { model.stream.loadedBytes }

  // MARK: Slots

  /// Takes a slot into use for a new conversation.
  public func begin(_ sampling: Sampling = Sampling()) throws(RuntimeError) -> Slot {
    guard let index = slots.firstIndex(where: { !$0.isInUse }) else {
      throw .noFreeSlot(slotCount: slots.count)
    }
    slots[index].isInUse = true
    slots[index].begin(sampling)
    return Slot(index: index)
  }

  /// The slot is free for another conversation.
  public func end(_ slot: Slot) { state(slot).isInUse = false }

  /// Forgets the slot's conversation and begins another one; the memory stays.
  public func reset(_ slot: Slot, _ sampling: Sampling? = nil) {
    let state = state(slot)
    state.begin(sampling ?? state.sampler.sampling)
  }

  func state(_ slot: Slot) -> SlotState {
    precondition(slots[slot.index].isInUse, "a slot that was ended")
    return slots[slot.index]
  }

  /// Reads an image's header: whether a turn could show it.
  public func check(_ image: Image, in slot: Slot) throws(RuntimeError) {
    guard model.config.vision != nil else { throw .modelTakesNoImages }
    let (used, limit) = (state(slot).imageCount, plan.limits.imageCount)
    guard used < limit else { throw .tooManyImages(needed: used + 1, limit: limit) }
    _ = try model.open(image)
  }

  // MARK: Rows in, logits out

  /// Runs a turn behind what the slot holds, up to where its answer begins; `logits(slot)` choose the first token.
  ///
  /// An error (an image that cannot be read, a prompt that does not fit, work that was cancelled) leaves the
  /// conversation as it was. Allocates before the first image is decoded, and nothing behind.
  public func append(_ request: Request, to slot: Slot) throws(RuntimeError) -> Prefill {
    let state = state(slot)
    let prompt = try Prompt(request, in: state, model)
    var result = Prefill()
    result.images = prompt.preparedImages(model.config.vision)
    result.visualTokensAverage = prompt.schedule.average(
      prompt.entryCount, layerCount: config.text.layerCount)
    let input = try layOut(prompt, state, request.cancellation, &result)
    let start = ProcessStatus.monotonicMilliseconds
    do {
      _ = try model.decoder.forward(
        input.rowCount, &state.cache, input.route, request.cancellation)
    } catch {
      state.cache.rollBack()
      throw error
    }
    state.commit(prompt, rowCount: input.rowCount, imageToken: config.specialTokens.image)
    result.milliseconds = ProcessStatus.monotonicMilliseconds - start
    result.rows = input.rowCount
    result.promptTokens = state.textRows + state.visualRows
    return result
  }

  /// Runs one token behind what the slot holds.
  public func step(
    _ token: Int32, _ slot: Slot, _ cancellation: Cancellation? = nil
  ) throws(RuntimeError) {
    let state = state(slot)
    let limit = plan.limits.contextRows
    guard state.textRows < limit else {
      throw .promptTooLong(neededRows: 1, freeRows: 0, contextRows: limit)
    }
    do {
      try model.embed(token, at: 0)
      _ = try model.decoder.forward(1, &state.cache, nil, cancellation)
    } catch {
      state.cache.rollBack()
      throw error
    }
    state.cache.commit()
    state.textRows += 1
  }

  /// What the slot's next token is chosen from, `(vocabSize)`, of the last `append` or `step`; choosing changes it.
  public func logits(_ slot: Slot) -> UnsafeMutableBufferPointer<Float> { model.decoder.logits }

  // MARK: Pruning

  /// What the stages of the last prompt did; empty where nothing was pruned. Allocates.
  public var pruningStages: [PruningStage] { model.decoder.pruner.records.stages }

  /// What the stages of the last prompt took.
  public var pruningCost: PruningCost { model.decoder.pruner.records.cost }

  /// Rows of a slot in every layer's cache.
  package func cachedRows(_ slot: Slot) -> [Int] { state(slot).cache.layers.map(\.count) }
}
