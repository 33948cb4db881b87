/// Hands out pieces of the caller's scratch memory, one after another.
struct Scratch {
  static let alignment = 64

  private var next: UnsafeMutableRawPointer
  private var left: Int

  /// `alignment` bytes more than a piece asks for, so that rounding always fits.
  static func rounded(_ byteCount: Int) -> Int {
    (byteCount + alignment - 1) / alignment * alignment
  }

  init(_ bytes: UnsafeMutableRawBufferPointer) {
    let base = bytes.baseAddress!
    next = base.alignedUp(toMultipleOf: Self.alignment)
    left = bytes.count - (next - base)
  }

  /// What is left.
  var rest: UnsafeMutableRawBufferPointer {
    UnsafeMutableRawBufferPointer(start: next, count: left)
  }

  /// Uninitialised memory for `count` values. Traps where the scratch is too small: its size is ours.
  mutating func take<T: BitwiseCopyable>(_ type: T.Type, _ count: Int) -> UnsafeMutablePointer<T> {
    let byteCount = Self.rounded(count * MemoryLayout<T>.stride)
    precondition(byteCount <= left, "image scratch: too small")
    let piece = next.bindMemory(to: type, capacity: count)
    next += byteCount
    left -= byteCount
    return piece
  }
}
