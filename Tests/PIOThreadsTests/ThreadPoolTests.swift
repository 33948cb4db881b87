import Foundation
import Testing

import PIOThreads

@Test(arguments: [1, 2, 3, 16], [0, 1, 2, 17, 1000])
func everyTaskRunsOnce(threadCount: Int, taskCount: Int) throws {
  let pool = try ThreadPool(threadCount: threadCount)
  let runs = Counters(count: taskCount)
  pool.run(taskCount) { task, thread in
    #expect((0..<threadCount).contains(thread))
    runs.add(task)
  }
  #expect(runs.values == Array(repeating: 1, count: taskCount))
}

/// More threads than cores, jobs far shorter than a wake-up, and plain writes that the next job
/// reads: what ThreadSanitizer watches.
@Test func manyShortRunsLoseNothing() throws {
  let pool = try ThreadPool(threadCount: 8)
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

@Test func noTwoCallsShareAThreadNumber() throws {
  let pool = try ThreadPool(threadCount: 4)
  let inside = Counters(count: 4)
  for _ in 0..<200 {
    pool.run(16) { _, thread in
      #expect(inside.add(thread) == 1)
      inside.add(thread, -1)
    }
  }
}

@Test func sleepingWorkersWakeForALaterRun() throws {
  let pool = try ThreadPool(threadCount: 3)
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

@Test func poolsComeAndGo() throws {
  for _ in 0..<200 {
    let pool = try ThreadPool(threadCount: 4)
    pool.run(4) { _, _ in }
  }
  let threads = try? FileManager.default.contentsOfDirectory(atPath: "/proc/self/task").count
  #expect((threads ?? .max) < 300)
}

/// A board's CPUs as the kernel tells of them, and which are used.
struct Board: CustomTestStringConvertible, Sendable {
  let testDescription: String
  let capacities: [String?]
  let allowed: String
  var online: String?
  let big: [Int]
  let isHeterogeneous: Bool

  /// `/proc` and `/sys` under `root`.
  func write(_ root: String) throws {
    func write(_ text: String, _ folder: String, _ name: String) throws {
      try FileManager.default.createDirectory(
        atPath: root + folder, withIntermediateDirectories: true)
      try "\(text)\n".write(
        toFile: "\(root)\(folder)/\(name)", atomically: true, encoding: .utf8)
    }
    try write("Name:\tpioedge\nCpus_allowed_list:\t\(allowed)", "/proc/self", "status")
    let folder = "/sys/devices/system/cpu"
    if let online { try write(online, folder, "online") }
    for (processor, capacity) in capacities.enumerated() {
      if let capacity { try write(capacity, "\(folder)/cpu\(processor)", "cpu_capacity") }
    }
  }

  private static let rk3588: [String?] =
    Array(repeating: "530", count: 4) + Array(repeating: "1024", count: 4)

  static let all = [
    Board(
      testDescription: "Raspberry Pi 5, which names no capacities",
      capacities: [nil, nil, nil, nil], allowed: "0-3", online: "0-3", big: [0, 1, 2, 3],
      isHeterogeneous: false),
    Board(
      testDescription: "RK3588", capacities: rk3588, allowed: "0-7", online: "0-7",
      big: [4, 5, 6, 7], isHeterogeneous: true),
    Board(
      testDescription: "RK3588, two big cores offline", capacities: rk3588, allowed: "0-7",
      online: "0-5", big: [4, 5], isHeterogeneous: true),
    Board(
      testDescription: "RK3588, a cpuset of small cores", capacities: rk3588, allowed: "0-2",
      online: "0-7", big: [0, 1, 2], isHeterogeneous: false),
    Board(
      testDescription: "RK3588, a cpuset of both", capacities: rk3588, allowed: "2-3,6",
      online: "0-7", big: [6], isHeterogeneous: true),
    Board(
      testDescription: "Two big clusters that differ a little",
      capacities: ["414", "414", "983", "983", "1024", "1024"], allowed: "0-5", online: "0-5",
      big: [2, 3, 4, 5], isHeterogeneous: true),
    Board(
      testDescription: "Three quarters and a little less",
      capacities: ["768", "767", "1024"], allowed: "0-2", online: nil, big: [0, 2],
      isHeterogeneous: true),
    Board(
      testDescription: "No list of those online, garbage for capacities",
      capacities: ["garbage", "-5", ""], allowed: "0-2", online: nil, big: [0, 1, 2],
      isHeterogeneous: false),
    Board(
      testDescription: "None of the allowed is online", capacities: rk3588, allowed: "4-5",
      online: "0-3", big: [4, 5], isHeterogeneous: false),
  ]
}

@Test(arguments: Board.all) func theBigCoresOfABoardAreUsed(board: Board) throws {
  let root = NSTemporaryDirectory() + "pio-board-\(UUID())"
  defer { try? FileManager.default.removeItem(atPath: root) }
  try board.write(root)
  let found = bigProcessors(root: root)
  #expect(found.big == board.big)
  #expect(found.isHeterogeneous == board.isHeterogeneous)
}

/// What a control group's `cpu.max` leaves of an RK3588's four big cores: groups of one name in another, and what
/// their files say, the outermost first.
@Test(arguments: [
  ([], 4), (["max 100000"], 4), (["150000 100000"], 2), (["100000 100000"], 1),
  (["5000 100000"], 1), (["800000 100000"], 4), (["max 100000", "300000 100000"], 3),
  (["200000 100000", "max 100000"], 2), (["300000 100000", "50000 50000", "max 100000"], 1),
  (["garbage", "1000000000000000000 3"], 4), (["-1 100000", "100000 0", "1"], 4),
])
func aGroupsShareOfTimeBoundsTheThreads(quotas: [String], threads: Int) throws {
  let root = NSTemporaryDirectory() + "pio-group-\(UUID())"
  defer { try? FileManager.default.removeItem(atPath: root) }
  try Board.all[1].write(root)
  #expect(defaultThreadCount(root: root) == 4)
  var folder = root + "/sys/fs/cgroup"
  for quota in quotas {
    try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    try "\(quota)\n".write(toFile: "\(folder)/cpu.max", atomically: true, encoding: .utf8)
    folder += "/inner"
  }
  let group = quotas.dropFirst().map { _ in "/inner" }.joined()
  try "1:net_cls:/other\n0::\(group.isEmpty ? "/" : group)\n".write(
    toFile: root + "/proc/self/cgroup", atomically: true, encoding: .utf8)
  #expect(defaultThreadCount(root: root) == threads)
}

@Test func theDefaultIsThisMachinesBigCores() {
  #expect(defaultThreadCount() <= bigProcessors().big.count)
  #expect((1...availableProcessors().count).contains(defaultThreadCount()))
}

@Test func workersStayOnTheGivenProcessorsAndTheirMakerIsFree() throws {
  let only = availableProcessors().last!
  let before = availableProcessors()
  let lists = Lists()
  let callers = allowedList()
  let pool = try ThreadPool(threadCount: 3, processors: [only])
  pool.run(3) { _, thread in
    lists.set(thread, allowedList())
    usleep(50_000)  // so that one thread cannot take all
  }
  #expect(lists.values == [0: callers, 1: "\(only)", 2: "\(only)"])
  #expect(allowedList() == callers)
  #expect(availableProcessors() == before, "another thread was restricted")
}

/// On a thread of its own, whose affinity may change.
@Test func aBoundThreadBindsTheWorkersThatItMakes() {
  let only = availableProcessors().last!
  let lists = Lists()
  let finished = DispatchSemaphore(value: 0)
  Thread.detachNewThread {
    restrictThread(to: [only])
    if let pool = try? ThreadPool(threadCount: 3, processors: nil) {
      pool.run(3) { _, thread in
        lists.set(thread, allowedList())
        usleep(50_000)
      }
    }
    finished.signal()
  }
  finished.wait()
  #expect(lists.values == [0: "\(only)", 1: "\(only)", 2: "\(only)"])
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
