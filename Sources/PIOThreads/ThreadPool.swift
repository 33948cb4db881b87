/// The one thread pool.
public final class ThreadPool: Sendable {
  public let threadCount: Int

  public init(threadCount: Int) { self.threadCount = threadCount }

  /// Calls `body(task, thread)` for every task below `taskCount`; returns when all are done.
  public func run(_ taskCount: Int, _ body: (_ task: Int, _ thread: Int) -> Void) {
    for task in 0..<taskCount { body(task, 0) }
  }
}
