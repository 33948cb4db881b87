import Synchronization

/// Ends work early, from any thread: it is looked at between layers, chunks of rows, and tokens.
public final class Cancellation: Sendable {
  private let flag = Atomic<Bool>(false)

  public init() {}

  public func cancel() { flag.store(true, ordering: .relaxed) }

  public var isCancelled: Bool { flag.load(ordering: .relaxed) }
}

extension Cancellation? {
  func check() throws(RuntimeError) {
    if self?.isCancelled == true { throw .cancelled }
  }
}
