import Foundation
import Testing

import PIOThreads

@Test(arguments: [1, 2, 3, 16], [0, 1, 2, 17, 1000])
func everyTaskRunsOnce(threadCount: Int, taskCount: Int) {
  let pool = ThreadPool(threadCount: threadCount)
  let runs = Counters(count: taskCount)
  pool.run(taskCount) { task, thread in
    #expect((0..<threadCount).contains(thread))
    runs.add(task)
  }
  #expect(runs.values == Array(repeating: 1, count: taskCount))
}

/// More threads than cores, jobs far shorter than a wake-up, and plain writes that the next job
/// reads: what ThreadSanitizer watches.
@Test func manyShortRunsLoseNothing() {
  let pool = ThreadPool(threadCount: 8)
  let cells = UnsafeMutablePointer<Int>.allocate(capacity: 64)
  cells.initialize(repeating: 0, count: 64)
  defer { cells.deallocate() }
  nonisolated(unsafe) let view = cells
  for round in 0..<20_000 {
    let count = round % 64 + 1
    pool.run(count) { task, _ in view[(task + round) % 64] += 1 }
  }
  let total = (0..<64).reduce(0) { $0 + cells[$1] }
  #expect(total == (0..<20_000).reduce(0) { $0 + $1 % 64 + 1 })
}

@Test func noTwoCallsShareAThreadNumber() {
  let pool = ThreadPool(threadCount: 4)
  let inside = Counters(count: 4)
  for _ in 0..<200 {
    pool.run(16) { _, thread in
      #expect(inside.add(thread) == 1)
      inside.add(thread, -1)
    }
  }
}

@Test func sleepingWorkersWakeForALaterRun() {
  let pool = ThreadPool(threadCount: 3)
  for _ in 0..<5 {
    usleep(20_000)  // far above the spin
    let threads = Counters(count: 3)
    pool.run(3) { _, thread in
      threads.add(thread)
      usleep(50_000)  // so that one thread cannot take all
    }
    #expect(threads.values == [1, 1, 1])
  }
}

@Test func poolsComeAndGo() {
  for _ in 0..<200 {
    let pool = ThreadPool(threadCount: 4)
    pool.run(4) { _, _ in }
  }
  let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
  #expect((threads ?? .max) < 300)
}

@Test func bigCoresOnlyWhereCapacitiesDiffer() throws {
  let folder = NSTemporaryDirectory() + "pio-sysfs-\(UUID())"
  defer { try? FileManager.default.removeItem(atPath: folder) }
  let processors = availableProcessors()
  #expect(defaultThreadCount(sysfs: folder) == processors.count)
  for (index, processor) in processors.enumerated() {
    let path = "\(folder)/cpu\(processor)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try "\(index == 0 ? 1024 : 530)\n".write(
      toFile: "\(path)/cpu_capacity", atomically: true, encoding: .utf8)
  }
  #expect(defaultThreadCount(sysfs: folder) == 1)
  for processor in processors {
    try "garbage".write(
      toFile: "\(folder)/cpu\(processor)/cpu_capacity", atomically: true, encoding: .utf8)
  }
  #expect(defaultThreadCount(sysfs: folder) == processors.count)
}

@Test func bigCoresAreThoseOfTheSysfsFolder() throws {
  let folder = NSTemporaryDirectory() + "pio-sysfs-\(UUID())"
  defer { try? FileManager.default.removeItem(atPath: folder) }
  let processors = availableProcessors()
  #expect(bigProcessors(sysfs: folder) == (processors, false))
  let capacities = [1024, 768, 767, 530]
  for (index, processor) in processors.enumerated() {
    let path = "\(folder)/cpu\(processor)"
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try "\(capacities[(index + 3) % 4])\n".write(
      toFile: "\(path)/cpu_capacity", atomically: true, encoding: .utf8)
  }
  let big = processors.indices.filter { (index: Int) -> Bool in
    let isLargestThere = processors.count == 1
    return isLargestThere || capacities[(index + 3) % 4] >= 768
  }
  #expect(bigProcessors(sysfs: folder).big == big.map { processors[$0] })
  #expect(bigProcessors(sysfs: folder).isHeterogeneous == (processors.count > 1))
}

/// On a thread of its own, whose affinity may change.
@Test func workersAndTheirMakerStayOnTheGivenProcessors() {
  let only = availableProcessors().last!
  let before = availableProcessors()
  let lists = Lists()
  let finished = DispatchSemaphore(value: 0)
  Thread.detachNewThread {
    let pool = ThreadPool(threadCount: 3, processors: [only])
    pool.run(3) { _, thread in
      lists.set(thread, allowedList())
      usleep(50_000)  // so that one thread cannot take all
    }
    finished.signal()
  }
  finished.wait()
  #expect(lists.values == [0: "\(only)", 1: "\(only)", 2: "\(only)"])
  #expect(availableProcessors() == before, "another thread was restricted")
}

@Test func anImpossibleProcessorRestrictsNothing() {
  let before = allowedList()
  #expect(!restrictThread(to: []))
  #expect(!restrictThread(to: [-1]))
  #expect(!restrictThread(to: [4095]))
  #expect(allowedList() == before)
}

/// The CPUs of the calling thread, as the kernel prints them.
private func allowedList() -> String {
  let status = (try? String(contentsOfFile: "/proc/thread-self/status", encoding: .utf8)) ?? ""
  let key = "Cpus_allowed_list:"
  let line = status.split(separator: "\n").first { $0.hasPrefix(key) } ?? ""
  return line.dropFirst(key.count).trimmingCharacters(in: .whitespaces)
}

private final class Lists: @unchecked Sendable {
  private let lock = NSLock()
  private var lists: [Int: String] = [:]

  var values: [Int: String] { lock.withLock { lists } }

  func set(_ thread: Int, _ list: String) { lock.withLock { lists[thread] = list } }
}

/// Counters that threads may share.
private final class Counters: @unchecked Sendable {
  private let lock = NSLock()
  private var counts: [Int]

  init(count: Int) { counts = Array(repeating: 0, count: count) }

  var values: [Int] { lock.withLock { counts } }

  @discardableResult
  func add(_ index: Int, _ amount: Int = 1) -> Int {
    lock.withLock {
      counts[index] += amount
      return counts[index]
    }
  }
}

@Test func readsTheKernelsProcessorLists() {
  #expect(processors(inList: "0-3,8\n") == [0, 1, 2, 3, 8])
  #expect(processors(inList: "\t5") == [5])
  #expect(processors(inList: "3-1,x,-,0-99999999999").isEmpty)
}
