import CPIOKernels
import PIOFormat

/// A handle to one conversation that a `Runtime` holds.
public struct Slot: Hashable, Sendable {
  let index: Int
}

/// One conversation between two turns.
final class SlotState {
  var cache: KVArena
  var sampler: Sampler
  /// Text rows, generated ones included.
  var textRows = 0
  var imageCount = 0
  /// Rows of images in front of what pruning drops.
  var visualRows = 0
  /// The last token of an answer that was cut off: sampled, not yet run.
  var pending: Int32?
  var isInUse = false

  init(_ layout: ArenaLayout, text: TextConfig, kernels: pio_kernels, arena: borrowing Arena) {
    cache = KVArena(layout, text: text, arena: arena)
    sampler = Sampler(
      Sampling(), seen: arena.buffer(layout.slot.seen),
      candidates: arena.buffer(layout.slot.candidates),
      kernels: kernels)
  }

  /// Forgets the conversation; the next one samples as `sampling` says.
  func begin(_ sampling: Sampling) {
    cache.removeAll()
    sampler.begin(sampling)
    (textRows, imageCount, visualRows, pending) = (0, 0, 0, nil)
  }

  /// The prompt's rows are in the cache: from here on the conversation has moved.
  func commit(_ prompt: Prompt, rowCount: Int, imageToken: Int32) {
    cache.commit()
    textRows += prompt.textRowCount
    visualRows += rowCount - prompt.textRowCount
    imageCount += prompt.images.count
    pending = nil
    for token in prompt.tokens where token != imageToken { sampler.note(token) }
  }
}
