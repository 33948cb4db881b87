import PIOText

extension Runtime {
  /// Runs one turn behind what the slot already holds, and answers it.
  ///
  /// `emit` gets whole UTF-8 characters, in a buffer of the arena that lives for the call, and says whether it wants
  /// more. An error before the first token (an image that cannot be read, a prompt that does not fit) leaves the
  /// conversation as it was.
  public func generate(
    _ slot: Slot, _ request: Request, emit: (UnsafeBufferPointer<UInt8>) -> Bool
  ) throws(RuntimeError) -> Generation {
    let start = ProcessStatus.monotonicMilliseconds
    var result = Generation()
    // The last of what allocates, but for the prompt: from the first image on only the image codecs do.
    result.tokens.reserveCapacity(min(request.maxTokens, plan.limits.contextRows))
    _ = ProcessStatus.millisecondsSinceStart
    result.prefill = try append(request, to: slot)
    let prefillEnd = ProcessStatus.monotonicMilliseconds
    request.inspectLogits?(UnsafeBufferPointer(logits(slot)))
    var text = TextStream(tokenizer, buffer: model.textBuffer)
    while let token = try next(slot, request, &result, start) {
      result.tokens.append(token)
      let wantsMore = emit(text.next(token))
      var reason = end(slot, request, result.tokens.count, wantsMore)
      if reason == nil { reason = try cancelled(step: token, slot, request.cancellation) }
      if let reason {
        result.finishReason = reason
        state(slot).pending = token
        break
      }
    }
    _ = emit(text.finish())
    result.decodeMilliseconds = ProcessStatus.monotonicMilliseconds - prefillEnd
    return result
  }

  /// The next token; nil: the model ends its answer.
  private func next(
    _ slot: Slot, _ request: Request, _ result: inout Generation, _ start: Double
  ) throws(RuntimeError) -> Int32? {
    let state = state(slot)
    guard let token = state.sampler.next(logits(slot)) else {
      let position = Int(state.cache.layers[0].nextPosition) - 1
      reset(slot)
      throw .nonFiniteLogits(position: position)
    }
    if result.tokens.isEmpty {
      result.firstTokenMilliseconds = ProcessStatus.monotonicMilliseconds - start
      result.processToFirstTokenMilliseconds = ProcessStatus.millisecondsSinceStart
    }
    if config.specialTokens.end.contains(token) { return nil }
    state.sampler.note(token)
    return token
  }

  /// Why the answer ends behind its last token; nil: it goes on.
  private func end(
    _ slot: Slot, _ request: Request, _ tokenCount: Int, _ wantsMore: Bool
  ) -> FinishReason? {
    if !wantsMore || request.cancellation?.isCancelled == true { return .cancelled }
    let isFull = state(slot).textRows >= plan.limits.contextRows
    return tokenCount >= request.maxTokens || isFull ? .length : nil
  }

  /// Runs a step; the reason of an end where it was cancelled on the way.
  private func cancelled(
    step token: Int32, _ slot: Slot, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> FinishReason? {
    do {
      try step(token, slot, cancellation)
      return nil
    } catch {
      guard case .cancelled = error else { throw error }
      return .cancelled
    }
  }

  /// One decode step without text: a token goes in, the sampler's choice comes out, whatever it is.
  package func decode(_ token: Int32, _ slot: Slot) throws(RuntimeError) -> Int32 {
    try step(token, slot)
    guard let next = state(slot).sampler.next(logits(slot)) else {
      throw .nonFiniteLogits(position: state(slot).textRows - 1)
    }
    return next
  }
}
