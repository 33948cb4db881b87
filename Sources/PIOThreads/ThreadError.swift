import Glibc

/// The system does not grant a thread: `ulimit -u`, a control group's `pids.max`, or no memory for its stack.
public struct ThreadError: Error, Equatable, CustomStringConvertible {
  /// Threads to be started, and how many of them were.
  public let wanted: Int
  public let started: Int
  public let errno: Int32

  public init(wanted: Int, started: Int, errno: Int32) {
    self.wanted = wanted
    self.started = started
    self.errno = errno
  }

  public var description: String {
    "cannot start a thread (\(started) of \(wanted) started): \(String(cString: strerror(errno)))"
  }
}
