import Glibc
import Synchronization

/// What the threads of a pool share.
///
/// A job is a ticket, `generation << 32 | tasks not yet claimed`. Claiming is one compare-and-swap,
/// which fails if the job has changed since the ticket was read; so a thread that wakes late reads
/// stale fields at worst and never acts on them, and `run` need not wait for sleepers.
final class Shared: Sendable {
  let running = Atomic<Bool>(false)
  private let ticket = Atomic<UInt64>(0)
  private let taskCount = Atomic<Int>(0)
  private let body = Atomic<UInt>(0)  // the address of a Job
  private let done = Atomic<Int>(0)
  private let stopping = Atomic<Bool>(false)
  private let spinCount: Int
  private let gate: Gate

  init(spinCount: Int) {
    self.spinCount = spinCount
    gate = Gate()
  }

  deinit { gate.destroy() }

  func publish(_ count: Int, _ job: UnsafeRawPointer) {
    taskCount.store(count, ordering: .relaxed)
    body.store(UInt(bitPattern: job), ordering: .relaxed)
    done.store(0, ordering: .relaxed)
    let generation = (ticket.load(ordering: .relaxed) >> 32) &+ 1
    ticket.store(generation << 32 | UInt64(count), ordering: .releasing)
    gate.wakeWorkers()
  }

  /// Claims and runs tasks until none is left.
  func work(thread: Int) {
    while true {
      let seen = ticket.load(ordering: .acquiring)
      let left = Int(seen & 0xffff_ffff)
      if left == 0 { return }
      let count = taskCount.load(ordering: .relaxed)
      let job = body.load(ordering: .relaxed)
      let (claimed, _) = ticket.compareExchange(
        expected: seen, desired: seen - 1, ordering: .acquiring)
      if !claimed { continue }
      let pointer = UnsafePointer<Job>(bitPattern: job)!
      pointer.pointee.invoke(pointer.pointee.body, count - left, thread)
      let finished = done.add(1, ordering: .acquiringAndReleasing).newValue
      if finished == count { gate.wakeCaller() }
    }
  }

  func waitUntilDone(_ count: Int) {
    for _ in 0..<spinCount where done.load(ordering: .acquiring) == count { return }
    gate.callerWaits { done.load(ordering: .acquiring) == count }
  }

  /// A worker's life.
  func serve(thread: Int) {
    while true {
      work(thread: thread)
      if spinForWork() { continue }
      if stopping.load(ordering: .acquiring) { return }
      gate.workerWaits { hasWork() || stopping.load(ordering: .acquiring) }
    }
  }

  func stop() {
    stopping.store(true, ordering: .releasing)
    gate.wakeWorkers()
  }

  private func hasWork() -> Bool { ticket.load(ordering: .acquiring) & 0xffff_ffff != 0 }

  private func spinForWork() -> Bool {
    for _ in 0..<spinCount {
      if hasWork() { return true }
      if stopping.load(ordering: .relaxed) { return false }
    }
    return false
  }
}

/// Where threads sleep. Each side changes its condition first and takes the mutex after, so that a
/// thread which has tested the condition under the mutex is asleep before it is woken.
private struct Gate: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let work: UnsafeMutablePointer<pthread_cond_t>
  private let finished: UnsafeMutablePointer<pthread_cond_t>
  private let sleepers: UnsafeMutablePointer<Int>

  init() {
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    pthread_mutex_init(mutex, nil)
    work = .allocate(capacity: 2)
    work.initialize(repeating: pthread_cond_t(), count: 2)
    finished = work + 1
    pthread_cond_init(work, nil)
    pthread_cond_init(finished, nil)
    sleepers = .allocate(capacity: 1)
    sleepers.initialize(to: 0)
  }

  func destroy() {
    pthread_cond_destroy(work)
    pthread_cond_destroy(finished)
    pthread_mutex_destroy(mutex)
    work.deallocate()
    mutex.deallocate()
    sleepers.deallocate()
  }

  func wakeWorkers() {
    pthread_mutex_lock(mutex)
    let anyoneSleeps = sleepers.pointee > 0
    pthread_mutex_unlock(mutex)
    if anyoneSleeps { pthread_cond_broadcast(work) }
  }

  func wakeCaller() {
    pthread_mutex_lock(mutex)
    pthread_cond_signal(finished)
    pthread_mutex_unlock(mutex)
  }

  func workerWaits(until condition: () -> Bool) {
    pthread_mutex_lock(mutex)
    sleepers.pointee += 1
    while !condition() { pthread_cond_wait(work, mutex) }
    sleepers.pointee -= 1
    pthread_mutex_unlock(mutex)
  }

  func callerWaits(until condition: () -> Bool) {
    pthread_mutex_lock(mutex)
    while !condition() { pthread_cond_wait(finished, mutex) }
    pthread_mutex_unlock(mutex)
  }
}
