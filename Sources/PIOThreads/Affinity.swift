import Glibc

/// `sched_setaffinity`, which the C library's module hides behind `_GNU_SOURCE`; 0 is the calling thread.
@_silgen_name("sched_setaffinity")
private func setAffinity(_ thread: Int32, _ byteCount: Int, _ mask: UnsafePointer<UInt64>) -> Int32

/// Keeps the calling thread, and those it makes from now on, on the CPUs that the workers of a pool of so many threads
/// stay on: before the pool is made. Where CPUs do not differ nothing changes.
///
/// For the owner of the thread, never for a library.
public func bindCallingThread(threadCount: Int) {
  if let processors = processors(forThreads: threadCount) { restrictThread(to: processors) }
}

/// The big CPUs where there are others, and enough of them for so many threads; nil: no restriction.
func processors(forThreads threadCount: Int) -> [Int]? {
  let (big, isHeterogeneous) = bigProcessors()
  return isHeterogeneous && threadCount <= big.count ? big : nil
}

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
