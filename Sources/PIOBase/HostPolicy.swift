/// What the runtime may do to the process that it runs in.
///
/// A command owns its process; a library is a guest in somebody else's, and changes nothing there.
public struct HostPolicy: Equatable, Sendable {
  /// A page of the model file that cannot be read ends the process in one line and exit code 1. Otherwise the signal
  /// is the host's business.
  public var handlesReadErrors: Bool
  /// The calling thread is bound to one of the cores that the pool's threads are chosen from.
  public var bindsCallingThread: Bool
  /// Environment variables that OpenBLAS reads when it is loaded are set where they are missing.
  public var setsEnvironment: Bool
  /// Heap that the image codecs have given back goes back to the system.
  public var trimsHeap: Bool

  /// For an executable of ours.
  public static let command = HostPolicy(
    handlesReadErrors: true, bindsCallingThread: true, setsEnvironment: true, trimsHeap: true)
  /// For a guest in a process of somebody else's.
  public static let library = HostPolicy(
    handlesReadErrors: false, bindsCallingThread: false, setsEnvironment: false, trimsHeap: false)
}
