import Glibc
import Synchronization

/// The one thread pool: `threadCount - 1` workers, made once, and the thread that calls `run`.
///
/// Idle workers spin for some microseconds, as long as there is a core for each thread, then sleep.
public final class ThreadPool: Sendable {
  public let threadCount: Int
  private let shared: Shared
  private let workers: Workers

  /// Where CPUs differ and the big ones are enough for all threads, the workers stay on the big ones: a worker on a
  /// small core would hold up every `run`. So would the calling thread, which is not the pool's:
  /// `bindCallingThread(threadCount:)` is for whoever owns it.
  ///
  /// Throws where the system grants fewer threads; none is left running then. Traps unless `threadCount` is in 1…1024.
  public convenience init(threadCount: Int) throws(ThreadError) {
    try self.init(threadCount: threadCount, processors: processors(forThreads: threadCount))
  }

  /// - Parameter processors: what the workers are restricted to; nil: what the calling thread is.
  package init(threadCount: Int, processors: [Int]?) throws(ThreadError) {
    precondition((1...1024).contains(threadCount), "ThreadPool: threadCount must be in 1…1024")
    self.threadCount = threadCount
    shared = Shared(spinCount: threadCount <= availableProcessors().count ? 20_000 : 0)
    workers = try Workers(count: threadCount - 1, shared, processors)
  }

  deinit {
    shared.stop()
    workers.join()
  }

  /// Calls `body.run(task, thread)` once for every task below `taskCount`, on whichever thread is free,
  /// tasks ascending; returns when all are done, and everything they wrote is visible then.
  ///
  /// `thread` is below `threadCount` and no two calls at one time share it; the caller is thread 0.
  /// Traps if a `run` of this pool is under way, so also if `body` calls it. Allocates nothing.
  @inlinable
  public func run<Body: ParallelBody>(_ taskCount: Int, _ body: Body) {
    withUnsafePointer(to: body) { pointer in
      execute(taskCount, UnsafeRawPointer(pointer)) { body, task, thread in
        body.assumingMemoryBound(to: Body.self).pointee.run(task: task, thread: thread)
      }
    }
  }

  /// The same for a closure, whose context Swift puts on the heap: two small allocations a call.
  public func run(_ taskCount: Int, _ body: (_ task: Int, _ thread: Int) -> Void) {
    withoutActuallyEscaping(body) { run(taskCount, ClosureBody(body: $0)) }
  }

  @usableFromInline
  func execute(
    _ taskCount: Int, _ body: UnsafeRawPointer,
    _ invoke: @escaping (UnsafeRawPointer, Int, Int) -> Void
  ) {
    precondition(taskCount >= 0 && taskCount < Int(UInt32.max), "ThreadPool: too many tasks")
    let nested = shared.running.exchange(true, ordering: .acquiring)
    precondition(!nested, "ThreadPool: run inside a run")
    if threadCount == 1 || taskCount <= 1 {
      for task in 0..<taskCount { invoke(body, task, 0) }
    } else {
      let job = Job(body: body, invoke: invoke)
      withUnsafePointer(to: job) { pointer in
        shared.publish(taskCount, UnsafeRawPointer(pointer))
        shared.work(thread: 0)
        shared.waitUntilDone(taskCount)
      }
    }
    shared.running.store(false, ordering: .releasing)
  }
}

/// Work that can be cut into tasks. A struct of what the tasks need: threads call it where it lies,
/// on the caller's stack, so that nothing is boxed.
public protocol ParallelBody {
  func run(task: Int, thread: Int)
}

private struct ClosureBody: ParallelBody {
  let body: (_ task: Int, _ thread: Int) -> Void

  func run(task: Int, thread: Int) { body(task, thread) }
}

/// A body whose type is forgotten, and how to call it.
struct Job {
  let body: UnsafeRawPointer
  let invoke: (UnsafeRawPointer, Int, Int) -> Void
}

/// The threads themselves.
private struct Workers: @unchecked Sendable {
  private let handles: UnsafeMutableBufferPointer<pthread_t>

  init(count: Int, _ shared: Shared, _ processors: [Int]?) throws(ThreadError) {
    handles = .allocate(capacity: count)
    for index in 0..<count {
      let start = WorkerStart(shared: shared, thread: index + 1, processors: processors)
      let failure = Self.begin(handles.baseAddress! + index, start)
      if failure == 0 { continue }
      shared.stop()
      for handle in handles[..<index] { pthread_join(handle, nil) }
      handles.deallocate()
      throw ThreadError(wanted: count, started: index, errno: failure)
    }
  }

  /// 0, or why there is no thread.
  private static func begin(_ handle: UnsafeMutablePointer<pthread_t>, _ start: WorkerStart)
    -> Int32
  {
    var attributes = pthread_attr_t()
    pthread_attr_init(&attributes)
    defer { pthread_attr_destroy(&attributes) }
    pthread_attr_setstacksize(&attributes, 1 << 20)  // kernels keep below 128 KiB of stack
    let argument = Unmanaged.passRetained(start)
    let failure = pthread_create(
      handle, &attributes,
      { argument in
        let start = Unmanaged<WorkerStart>.fromOpaque(argument!).takeRetainedValue()
        if let processors = start.processors { restrictThread(to: processors) }
        start.shared.serve(thread: start.thread)
        return nil
      }, argument.toOpaque())
    if failure != 0 { argument.release() }
    return failure
  }

  func join() {
    for handle in handles { pthread_join(handle, nil) }
    handles.deallocate()
  }
}

private final class WorkerStart: Sendable {
  let shared: Shared
  let thread: Int
  let processors: [Int]?

  init(shared: Shared, thread: Int, processors: [Int]?) {
    self.shared = shared
    self.thread = thread
    self.processors = processors
  }
}
