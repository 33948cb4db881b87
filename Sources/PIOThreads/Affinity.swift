import Glibc

/// `sched_setaffinity`, which the C library's module hides behind `_GNU_SOURCE`; 0 is the calling thread.
@_silgen_name("sched_setaffinity")
private func setAffinity(_ thread: Int32, _ byteCount: Int, _ mask: UnsafePointer<UInt64>) -> Int32

/// The CPUs that this thread and those it makes may run on from now.
///
/// Returns false where the kernel refuses, say for a CPU that is not there; nothing has changed then.
@discardableResult
package func restrictThread(to processors: [Int]) -> Bool {
  guard let last = processors.max(), last < 4096, processors.allSatisfy({ $0 >= 0 }) else {
    return false
  }
  var mask = [UInt64](repeating: 0, count: last / 64 + 1)
  for processor in processors { mask[processor / 64] |= 1 << UInt64(processor % 64) }
  return setAffinity(0, mask.count * MemoryLayout<UInt64>.size, mask) == 0
}
