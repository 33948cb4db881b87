import CPIOKernels
import PIORuntime
import PIOThreads

/// What this machine can do at most with so many threads, measured by loops that do nothing else.
///
/// Each measurement takes some 30 ms and is the best of a few runs: what disturbs a run only makes it slower.
/// On a machine that others use too, measure beside what is to be held against it.
public final class LimitMeter {
  private static let runs = 3

  private let loops: pio_limit_loops
  private let pool: ThreadPool
  private let int8Rounds: UInt64
  private let f32Rounds: UInt64
  /// What is read, a slice for each thread. Costs nothing before the first read.
  private let arena: Arena
  private let sliceByteCount: Int
  private var isTouched: Bool

  /// - Parameter isa: name of the kernels whose instructions are meant.
  public init(isa: String, threadCount: Int) throws(RuntimeError) {
    let left = SystemMemory().availableBytes - ProcessStatus.peakResidentBytes
    let wanted = min(256 << 20, max(16 << 20, left / 4))
    let sliceByteCount = wanted / threadCount / 4096 * 4096
    // First what may throw: Swift 6.0.3 does not compile it among the fields.
    let arena = try Arena(byteCount: sliceByteCount * threadCount)
    let pool: ThreadPool
    do throws(ThreadError) {
      pool = try ThreadPool(threadCount: threadCount)
    } catch {
      throw .threads(error)
    }
    let loops = pio_limit_loops_for(isa).pointee
    self.loops = loops
    self.sliceByteCount = sliceByteCount
    self.arena = arena
    self.pool = pool
    int8Rounds = LimitMeter.calibrated { loops.int8_macs($0) }
    f32Rounds = LimitMeter.calibrated { loops.f32_flops($0) }
    isTouched = false
  }

  /// Multiply-adds of 8-bit numbers into 32-bit sums, 10⁹ a second.
  public func int8GMACs() -> Double {
    best { [loops, int8Rounds] _ in loops.int8_macs(int8Rounds) }
  }

  /// Multiplications and additions in f32, 10⁹ a second.
  public func f32GFLOPs() -> Double {
    best { [loops, f32Rounds] _ in loops.f32_flops(f32Rounds) }
  }

  /// Bytes read from memory, 10⁹ a second. The first call takes the memory: 256 MiB, or a quarter of what
  /// is left, at least 16 MiB.
  public func readGBs() -> Double {
    let base = arena.base.assumingMemoryBound(to: UInt8.self)
    if !isTouched {
      pool.run(pool.threadCount) { [sliceByteCount] task, _ in
        // Not zeros: untouched pages could share one page of them.
        (base + task * sliceByteCount).update(repeating: 1, count: sliceByteCount)
      }
      isTouched = true
    }
    let plain = readGBs(loops.read)
    return loops.read_ahead.map { max(plain, readGBs($0)) } ?? plain
  }

  private func readGBs(
    _ loop: @escaping @convention(c) (UnsafeRawPointer?, Int) -> UInt64
  ) -> Double {
    best { [base = arena.base, sliceByteCount] task in
      // The value decides nothing, but it takes every byte to make it.
      _ = loop(base + task * sliceByteCount, sliceByteCount)
      return UInt64(sliceByteCount)
    }
  }

  /// Rounds that take about 10 ms.
  private static func calibrated(_ loop: (UInt64) -> UInt64) -> UInt64 {
    var rounds: UInt64 = 1 << 10
    while true {
      let start = ProcessStatus.monotonicMilliseconds
      _ = loop(rounds)
      if ProcessStatus.monotonicMilliseconds - start >= 5 { return 2 * rounds }
      rounds *= 2
    }
  }

  /// 10⁹ units a second, all threads together. `work` does one thread's share and returns its units.
  private func best(_ work: (_ task: Int) -> UInt64) -> Double {
    let tasks = pool.threadCount
    var fastest = 0.0
    withUnsafeTemporaryAllocation(of: UInt64.self, capacity: tasks) { units in
      let base = units.baseAddress!
      for _ in 0..<LimitMeter.runs {
        let start = ProcessStatus.monotonicMilliseconds
        pool.run(tasks) { task, _ in base[task] = work(task) }
        let milliseconds = ProcessStatus.monotonicMilliseconds - start
        let total = (0..<tasks).reduce(UInt64(0)) { $0 + base[$1] }
        fastest = max(fastest, Double(total) / milliseconds * 1e-6)
      }
    }
    return fastest
  }
}
