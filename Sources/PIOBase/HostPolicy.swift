/// What the runtime may do to the process that it runs in.
///
/// A command owns its process; a library is a guest in somebody else's, and changes nothing there.
public struct HostPolicy: Equatable, Sendable {
  /// A page of the model file that cannot be read ends the process in one line and exit code 1. Otherwise the signal
  /// is the host's business.
  public var handlesReadErrors: Bool
  /// The calling thread is bound to the cores that the pool's threads run on, where cores differ.
  public var bindsCallingThread: Bool
  /// The environment variable by which OpenBLAS starts no threads when it is loaded is set.
  public var setsEnvironment: Bool
  /// A standard stream that the process was started without is held open, so that no other file gets its number and
  /// with it what is printed.
  public var holdsStandardStreams: Bool
  /// A file that grows beyond `ulimit -f` is a write that fails, and not the signal that ends the process.
  public var ignoresFileSizeSignal: Bool
  /// Heap that the image codecs have given back goes back to the system.
  public var trimsHeap: Bool
  /// Code that was called at the start alone is taken out of the process's memory when a model is opened.
  public var releasesCode: Bool

  /// For an executable of ours.
  public static let command = HostPolicy(
    handlesReadErrors: true, bindsCallingThread: true, setsEnvironment: true,
    holdsStandardStreams: true, ignoresFileSizeSignal: true, trimsHeap: true,
    releasesCode: true)
  /// For a guest in a process of somebody else's.
  public static let library = HostPolicy(
    handlesReadErrors: false, bindsCallingThread: false, setsEnvironment: false,
    holdsStandardStreams: false, ignoresFileSizeSignal: false, trimsHeap: false,
    releasesCode: false)
}
