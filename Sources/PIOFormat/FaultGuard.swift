import Glibc
import Synchronization

/// From here on a mapped file that was cut short, or that the disk cannot give any more, ends the process in one line and
/// exit code 1, and not with SIGBUS.
///
/// For the owner of a process, never for a library: there is one handler of a signal in a process.
public func installReadErrorHandler() { FaultGuard.install() }

/// Turns SIGBUS in a mapped file into one line on stderr and exit code 1, once `install` has been called.
///
/// The kernel raises it where a page of the mapping cannot be had: the file was cut short, or the disk cannot be read.
/// There is no way to go on: the page may be needed in the middle of a product. A fault anywhere else keeps its default.
enum FaultGuard {
  private struct Entry: ~Copyable {
    var start: UInt = 0
    /// 0: the slot is free. Stored last and loaded first, for a handler that looks meanwhile.
    let end = Atomic<UInt>(0)
    var message: UnsafeMutablePointer<UInt8>?
    var messageCount = 0
  }

  private static let capacity = 32
  /// Whether the handler is there; held while the entries change.
  private static let isInstalled = Mutex<Bool>(false)
  private static let isReporting = Atomic<Bool>(false)

  static func watch(_ bytes: UnsafeRawBufferPointer, path: String) {
    isInstalled.withLock { _ in
      let slots = entries()
      guard
        let free = (0..<capacity).first(where: { slots[$0].end.load(ordering: .relaxed) == 0 })
      else { return }
      let text = Array(
        "error: \(path) was cut short or cannot be read any more while it is in use\n".utf8)
      let message = UnsafeMutablePointer<UInt8>.allocate(capacity: text.count)
      message.initialize(from: text, count: text.count)
      slots[free].start = UInt(bitPattern: bytes.baseAddress!)
      slots[free].message = message
      slots[free].messageCount = text.count
      slots[free].end.store(
        UInt(bitPattern: bytes.baseAddress!) + UInt(bytes.count), ordering: .releasing)
    }
  }

  static func forget(_ bytes: UnsafeRawBufferPointer) {
    isInstalled.withLock { _ in
      guard let slots else { return }
      let start = UInt(bitPattern: bytes.baseAddress!)
      for index in 0..<capacity
      where slots[index].end.load(ordering: .relaxed) != 0 && slots[index].start == start {
        slots[index].end.store(0, ordering: .relaxed)
        slots[index].message?.deallocate()
        slots[index].message = nil
      }
    }
  }

  /// What the handler reads: a plain word, initialised without code, so that reading it is safe in a signal handler.
  nonisolated(unsafe) private static var slots: UnsafeMutablePointer<Entry>?

  /// The files that are mapped, whether the handler is there or not.
  private static func entries() -> UnsafeMutablePointer<Entry> {
    if let slots { return slots }
    let entries = UnsafeMutablePointer<Entry>.allocate(capacity: capacity)
    for index in 0..<capacity { (entries + index).initialize(to: Entry()) }
    slots = entries
    return entries
  }

  static func install() {
    isInstalled.withLock { isInstalled in
      guard !isInstalled else { return }
      isInstalled = true
      // Made now: a signal handler must not be the first to ask for it.
      isReporting.store(false, ordering: .relaxed)
      var action = sigaction()
      action.__sigaction_handler.sa_sigaction = { _, info, _ in
        let address = UInt(bitPattern: info?.pointee._sifields._sigfault.si_addr)
        FaultGuard.report(address, isSent: (info?.pointee.si_code ?? 0) <= 0)
      }
      action.sa_flags = SA_SIGINFO
      sigaction(SIGBUS, &action, nil)
    }
  }

  /// In the signal handler: async-signal-safe calls alone.
  private static func report(_ address: UInt, isSent: Bool) {
    if let slots, !isSent {
      for index in 0..<capacity {
        let end = slots[index].end.load(ordering: .acquiring)
        guard address < end && address >= slots[index].start else { continue }
        // Several threads may fault at once; one line is enough.
        if isReporting.exchange(true, ordering: .relaxed) { while true { pause() } }
        _ = write(STDERR_FILENO, slots[index].message, slots[index].messageCount)
        _exit(1)
      }
    }
    // Not ours: the instruction runs again and meets the default; a signal that was sent is sent again.
    signal(SIGBUS, SIG_DFL)
    if isSent { raise(SIGBUS) }
  }
}
