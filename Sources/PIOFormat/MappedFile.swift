import Glibc
import Synchronization

/// A regular file mapped read-only. Sole owner: the pages are unmapped when it dies.
///
/// A page that can no longer be read (the file was cut short, the disk failed) is a SIGBUS, which
/// `installReadErrorHandler` turns into one line and exit code 1.
public struct MappedFile: ~Copyable, @unchecked Sendable {
  public let bytes: UnsafeRawBufferPointer  // valid while this value lives
  private let descriptor: Int32

  public init(path: String) throws(ModelFileError) {
    // Without O_NONBLOCK, opening a pipe nobody writes to waits for ever.
    let fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard fd >= 0 else { throw .cannotOpen(path: path, errno: errno) }
    do {
      bytes = try Self.map(fd, path: path)
    } catch {
      close(fd)
      throw error
    }
    descriptor = fd
    FaultGuard.watch(bytes, path: path)
  }

  private static func map(_ fd: Int32, path: String) throws(ModelFileError)
    -> UnsafeRawBufferPointer
  {
    var status = stat()
    guard fstat(fd, &status) == 0 else { throw .cannotOpen(path: path, errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
    let count = Int(status.st_size)
    guard count > 0 else { throw .truncated(section: "file", neededBytes: 1, foundBytes: 0) }
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, fd, 0), base != MAP_FAILED
    else { throw .cannotOpen(path: path, errno: errno) }
    return UnsafeRawBufferPointer(start: base, count: count)
  }

  deinit {
    FaultGuard.forget(bytes)
    munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count)
    close(descriptor)
  }

  public var pages: FilePages {
    FilePages(bytes: bytes, descriptor: descriptor)
  }

  /// As on a machine whose pages are larger: a power of two, of this machine's pages.
  package func pages(ofByteCount pageByteCount: Int) -> FilePages {
    precondition(
      pageByteCount.nonzeroBitCount == 1 && pageByteCount % FilePages.pageByteCount == 0,
      "FilePages: no page size of this machine")
    return FilePages(bytes: bytes, descriptor: descriptor, pageByteCount: pageByteCount)
  }
}

/// Brings parts of a mapped file into memory and drops them. Valid while the file's owner lives.
///
/// Ranges are bytes of the file; they are widened to whole pages.
public struct FilePages: @unchecked Sendable {
  let bytes: UnsafeRawBufferPointer
  let descriptor: Int32
  /// What ranges are widened to; more than the machine's own only in tests.
  var pageByteCount = Self.pageByteCount

  /// How pages are brought in.
  public enum Method: Sendable {
    /// `MADV_POPULATE_READ`, Linux 5.14 and later.
    case populate
    /// One byte of each page is read: everywhere.
    case touch
  }

  /// What this kernel has.
  public var bestMethod: Method {
    let page = min(pageByteCount, bytes.count)
    let start = UnsafeMutableRawPointer(mutating: bytes.baseAddress!)
    return madvise(start, page, Self.populateRead) == 0 || errno != EINVAL ? .populate : .touch
  }

  /// `MADV_POPULATE_READ`; not in every libc's headers.
  private static let populateRead: Int32 = 22

  /// 4 KiB on most boards, 16 KiB on a Raspberry Pi 5, up to 64 KiB.
  public static let pageByteCount = sysconf(Int32(_SC_PAGESIZE))

  /// What the kernel begins to read for one piece of advice, on most boards: `read_ahead_kb` of the disk. Bytes.
  private static let advisedByteCount = 128 << 10

  /// Maps every page of `range`; the disk is asked for all of it before the first is waited for. Returns 0, or the errno
  /// of what could not be read.
  public func populate(_ range: Range<Int>, _ method: Method) -> Int32 {
    guard let pages = wholePages(range) else { return 0 }
    for start in stride(from: pages.lowerBound, to: pages.upperBound, by: Self.advisedByteCount) {
      let count = min(Self.advisedByteCount, pages.upperBound - start)
      posix_fadvise(descriptor, start, count, POSIX_FADV_WILLNEED)
    }
    switch method {
    case .populate:
      while madvise(pointer(pages), pages.count, Self.populateRead) != 0 {
        let failure = errno
        // A signal, or memory that is being reclaimed at the moment.
        if failure != EINTR && failure != EAGAIN { return failure }
      }
    case .touch:
      // The last page is the first to go when a file is cut short: a clear error for the common case.
      var status = stat()
      if fstat(descriptor, &status) != 0 { return errno }
      if Int(status.st_size) < bytes.count { return EFAULT }
      var sum: UInt8 = 0
      for offset in stride(from: pages.lowerBound, to: pages.upperBound, by: pageByteCount) {
        sum &+= bytes[offset]
      }
      Self.touched.store(sum, ordering: .relaxed)
    }
    return 0
  }

  /// Where the bytes read by `touch` end, so that reading them is not optimised away.
  private static let touched = Atomic<UInt8>(0)

  /// Makes what lies between neighbouring `boundaries` mappings of their own, so that a page fault in one never brings
  /// pages of the next along. (Since Linux 6.18 a fault maps a whole folio of the page cache, up to 2 MiB.)
  ///
  /// Mappings with different advice are different to the kernel: every second one stays out of core dumps, which
  /// changes nothing else. (Advice on reading would: with MADV_RANDOM each page is read by itself.)
  public func separate(_ boundaries: [Int]) {
    for (index, start) in boundaries.enumerated() where index % 2 == 1 {
      let end = index + 1 < boundaries.count ? boundaries[index + 1] : bytes.count
      if let pages = wholePages(start..<end) { madvise(pointer(pages), pages.count, MADV_DONTDUMP) }
    }
  }

  /// Unmaps the pages of `range`; with `fromCache` the page cache forgets them too.
  public func drop(_ range: Range<Int>, fromCache: Bool) {
    guard let pages = wholePages(range) else { return }
    // Locked pages cannot be dropped.
    if madvise(pointer(pages), pages.count, MADV_DONTNEED) != 0 && errno == EINVAL {
      munlock(pointer(pages), pages.count)
      madvise(pointer(pages), pages.count, MADV_DONTNEED)
    }
    if fromCache { posix_fadvise(descriptor, pages.lowerBound, pages.count, POSIX_FADV_DONTNEED) }
  }

  /// Keeps the pages of `range` in memory for good. Returns 0 or an errno.
  public func lock(_ range: Range<Int>) -> Int32 {
    guard let pages = wholePages(range) else { return 0 }
    return mlock(pointer(pages), pages.count) == 0 ? 0 : errno
  }

  /// Bytes from `offset` on, copied without mapping their pages. Returns 0 or an errno; a file that ends before: EFAULT.
  public func read(into target: UnsafeMutableRawBufferPointer, at offset: Int) -> Int32 {
    var done = 0
    while done < target.count {
      let count = pread(
        descriptor, target.baseAddress! + done, target.count - done, off_t(offset + done))
      if count == 0 { return EFAULT }
      if count < 0 {
        if errno == EINTR { continue }
        return errno
      }
      done += count
    }
    return 0
  }

  /// Bytes of `range` that are in memory now, by `mincore`: of this file in the page cache.
  public func cachedByteCount(_ range: Range<Int>) -> Int {
    guard let pages = wholePages(range) else { return 0 }
    let count = (pages.count + Self.pageByteCount - 1) / Self.pageByteCount
    var flags = [UInt8](repeating: 0, count: count)
    guard mincore(pointer(pages), pages.count, &flags) == 0 else { return 0 }
    return flags.reduce(0) { $0 + Int($1 & 1) } * Self.pageByteCount
  }

  private func pointer(_ range: Range<Int>) -> UnsafeMutableRawPointer {
    UnsafeMutableRawPointer(mutating: bytes.baseAddress! + range.lowerBound)
  }

  private func wholePages(_ range: Range<Int>) -> Range<Int>? {
    PIOFormat.wholePages(range, pageByteCount: pageByteCount, of: bytes.count)
  }
}

/// The whole pages around `range` in a file of `byteCount` bytes: what system calls take, whose first
/// byte must lie on a page. The file's last page is as short as the file is. nil: no byte of it.
package func wholePages(
  _ range: Range<Int>, pageByteCount: Int, of byteCount: Int
) -> Range<Int>? {
  let mask = pageByteCount - 1
  let start = max(0, range.lowerBound) & ~mask
  let end = min(byteCount, (range.upperBound + mask) & ~mask)
  return start < end ? start..<end : nil
}
