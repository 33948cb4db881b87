import Glibc
import PIOFormat

/// The runtime's only memory: one anonymous mapping, cut up by the plan. Pages cost nothing until they are touched.
package struct Arena: ~Copyable {
  package let base: UnsafeMutableRawPointer
  let byteCount: Int

  package init(byteCount: Int) throws(RuntimeError) {
    guard
      let base = mmap(
        nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
      base != MAP_FAILED
    else { throw .cannotMap(byteCount: byteCount, errno: errno) }
    // A huge page, 2 MiB and on 16 KiB pages 32, would be resident as soon as one byte of it is touched, where a phase
    // leaves the rest alone. A kernel without them refuses.
    madvise(base, byteCount, MADV_NOHUGEPAGE)
    self.base = base
    self.byteCount = byteCount
  }

  deinit { munmap(base, byteCount) }

  /// Gives the memory from `offset` on back; it reads as zeros afterwards.
  func giveBack(from offset: Int) {
    let page = FilePages.pageByteCount
    let start = (offset + page - 1) / page * page
    if start < byteCount { madvise(base + start, byteCount - start, MADV_DONTNEED) }
  }

  func pointer<T: BitwiseCopyable>(_ region: Region<T>) -> UnsafeMutablePointer<T> {
    precondition(region.offset + region.byteCount <= byteCount, "region outside the arena")
    return (base + region.offset).assumingMemoryBound(to: T.self)
  }

  func buffer<T: BitwiseCopyable>(_ region: Region<T>) -> UnsafeMutableBufferPointer<T> {
    UnsafeMutableBufferPointer(start: pointer(region), count: region.count)
  }
}

/// Where `count` elements lie in the arena.
public struct Region<T: BitwiseCopyable>: Equatable, Sendable {
  public let offset: Int
  public let count: Int
  public var byteCount: Int { count * MemoryLayout<T>.stride }
}

/// Hands out offsets; regions laid between `mark` and `rewind` share their bytes with what comes after.
struct Layout {
  private(set) var end = 0
  private(set) var peak = 0

  /// 64 bytes: a cache line, and the widest register.
  mutating func reserve<T: BitwiseCopyable>(_ count: Int, _ type: T.Type = T.self) -> Region<T> {
    let region = Region<T>(offset: end, count: count)
    end = (end + region.byteCount + 63) & ~63
    peak = max(peak, end)
    return region
  }

  mutating func rewind(to mark: Int) { end = mark }
}

/// Rows of f32 numbers somewhere in the arena: `(count, dim)`, row-major, contiguous.
struct Rows {
  let base: UnsafeMutablePointer<Float>
  let count: Int
  let dim: Int

  subscript(row: Int) -> UnsafeMutablePointer<Float> { base + row * dim }

  var buffer: UnsafeMutableBufferPointer<Float> {
    UnsafeMutableBufferPointer(start: base, count: count * dim)
  }

  func rows(_ range: Range<Int>) -> Rows {
    precondition(range.lowerBound >= 0 && range.upperBound <= count, "rows out of range")
    return Rows(base: base + range.lowerBound * dim, count: range.count, dim: dim)
  }

  /// The same memory for rows of another width, which must fit.
  func reshaped(count newCount: Int, dim newDim: Int) -> Rows {
    precondition(newCount * newDim <= count * dim, "reshaped rows are larger")
    return Rows(base: base, count: newCount, dim: newDim)
  }
}
