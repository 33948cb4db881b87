import Glibc
import PIOBase
import PIOFormat

/// What the kernel says of this process.
public enum ProcessStatus {
  /// `VmHWM`: the most memory that was ever resident, file-backed pages included.
  public static var peakResidentBytes: Int { field("VmHWM:", of: "/proc/self/status") * 1024 }

  /// `VmRSS`: what is resident now.
  public static var residentBytes: Int { field("VmRSS:", of: "/proc/self/status") * 1024 }

  /// Milliseconds since the process was started. The kernel keeps the start in ticks of 10 ms, rounded down: the
  /// figure is up to that much too long, never too short. Allocates at the first call alone.
  public static var millisecondsSinceStart: Double { milliseconds(CLOCK_BOOTTIME) - start }

  /// When the process was started, on the boot clock.
  private static let start: Double = {
    guard let text = contents(of: "/proc/self/stat"), let name = text.lastIndex(of: 0x29) else {
      return milliseconds(CLOCK_BOOTTIME)
    }
    // Fields behind the name in brackets, from the third; the start is the 22nd.
    let fields = text[(name + 2)...].split(separator: 0x20)
    guard fields.count > 19 else { return milliseconds(CLOCK_BOOTTIME) }
    return Double(number(fields[19])) * 1e3 / Double(sysconf(Int32(_SC_CLK_TCK)))
  }()

  /// Milliseconds on a clock that only goes forward.
  public static var monotonicMilliseconds: Double { milliseconds(CLOCK_MONOTONIC) }

  private static func milliseconds(_ clock: clockid_t) -> Double {
    var now = timespec()
    clock_gettime(clock, &now)
    return Double(now.tv_sec) * 1e3 + Double(now.tv_nsec) / 1e6
  }

  /// Takes code that only the start needed out of this process's memory: the files that it maps to be executed, its own
  /// and its libraries'. What is called again comes back from the page cache.
  ///
  /// Mappings of which a page was written, by a linker or a debugger, are left alone: it would be lost. Nothing else may
  /// map or unmap code meanwhile; `HostPolicy.releasesCode` says where that is known.
  static func releaseCode() {
    guard let text = contents(of: "/proc/self/smaps") else { return }
    var code: Range<UInt>?
    for line in text.split(separator: 0x0A) {
      if line.starts(with: "Anonymous:".utf8) {
        if let code, number(line.drop { $0 < 0x30 || $0 > 0x39 }) == 0 {
          madvise(
            UnsafeMutableRawPointer(bitPattern: code.lowerBound), code.count, MADV_DONTNEED)
        }
        code = nil
      } else if let mapped = executableFile(line) {
        code = mapped
      }
    }
  }

  /// "start-end mode offset device inode path": where a file is mapped to be executed, and not to be written.
  private static func executableFile(_ line: ArraySlice<UInt8>) -> Range<UInt>? {
    // What is said of a mapping begins with a capital.
    guard let first = line.first, !(0x41...0x5A).contains(first) else { return nil }
    let fields = line.split(separator: 0x20, maxSplits: 5)
    guard fields.count == 6, fields[1].elementsEqual("r-xp".utf8) else { return nil }
    guard fields[5].drop(while: { $0 == 0x20 }).first == 0x2F else { return nil }
    let bounds = fields[0].split(separator: 0x2D).map { hexadecimal($0) }
    guard bounds.count == 2, bounds[0] < bounds[1] else { return nil }
    return bounds[0]..<bounds[1]
  }

  private static func hexadecimal(_ digits: ArraySlice<UInt8>) -> UInt {
    digits.reduce(0) { $0 << 4 | UInt($1 < 0x3A ? $1 - 0x30 : $1 - 0x57) }
  }

  /// The number behind `name` in a file of lines, 0 where there is none.
  static func field(_ name: String, of path: String) -> Int {
    guard let text = contents(of: path) else { return 0 }
    for line in text.split(separator: 0x0A) where line.starts(with: name.utf8) {
      return number(line.dropFirst(name.utf8.count).drop { $0 == 0x20 || $0 == 0x09 })
    }
    return 0
  }

  private static func number(_ digits: ArraySlice<UInt8>) -> Int {
    digits.prefix { $0 >= 0x30 && $0 <= 0x39 }.reduce(0) { $0 * 10 + Int($1) - 0x30 }
  }

  private static func contents(of path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    // What stands in /proc comes at most a page at a time.
    var bytes: [UInt8] = []
    var piece = [UInt8](repeating: 0, count: 16384)
    while true {
      let count = piece.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      guard count > 0 else { break }
      bytes += piece[..<count]
    }
    return bytes.isEmpty ? nil : bytes
  }
}

/// What the process takes beside what the plan lays out.
public struct ProcessMemory: Equatable, Sendable {
  /// Code, libraries, heap, the main thread's stack.
  public let baseBytes: Int

  /// What a thread has touched of its stack, and the kernel's bookkeeping in user space: in two places, so that pages
  /// of 64 KiB take two.
  static let threadBytes = max(64 << 10, 2 * FilePages.pageByteCount)
  /// OpenBLAS, loaded at the first product of many rows in f32: its code and tables, and the buffers of each thread.
  static let blasBytes = 2 << 20
  static let blasBytesPerThread = 1 << 19
  /// What a process with Swift's dynamic libraries comes to on x86-64 Linux: 12.6 to 16.2 MiB were measured.
  static let usualBytes = 35 << 19
  /// How much of its code the kernel maps at once varies by this much.
  static let stepBytes = 2 << 20
  /// An allowance for code and heap that are touched when the model runs, above what is left behind `releaseCode`:
  /// 5.2 MiB. Lines of JSON touch most. A test holds plans against `VmHWM`.
  static let laterBytes = 11 << 20
  /// The same where code stays.
  static let laterBytesBesideCode = 3 << 19

  public init(baseBytes: Int) { self.baseBytes = baseBytes }

  /// Before anything is known of the process that will run.
  public static let usual = ProcessMemory(baseBytes: usualBytes)

  /// Measured with the model file open and nothing run, and code of the start given back: the usual figure, so that a plan and a run after it agree to
  /// the byte, or where this process is larger, what it will come to.
  public static func measured(frontByteCount: Int, host: HostPolicy) -> ProcessMemory {
    if host.releasesCode { ProcessStatus.releaseCode() }
    let later = host.releasesCode ? laterBytes : laterBytesBesideCode
    let expected = ProcessStatus.residentBytes - frontByteCount + later
    let steps = max(0, (expected - usualBytes + stepBytes - 1) / stepBytes)
    return ProcessMemory(baseBytes: usualBytes + steps * stepBytes)
  }
}
