import Glibc

/// A regular file mapped read-only. Sole owner: the pages are unmapped when it dies.
///
/// The file must not shrink while it is mapped: reading a page that is gone raises SIGBUS.
public struct MappedFile: ~Copyable, @unchecked Sendable {
  public let bytes: UnsafeRawBufferPointer  // valid while this value lives

  public init(path: String) throws(ModelFileError) {
    // Without O_NONBLOCK, opening a pipe nobody writes to waits for ever.
    let fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard fd >= 0 else { throw .cannotOpen(path: path, errno: errno) }
    defer { close(fd) }  // the mapping outlives the descriptor
    var status = stat()
    guard fstat(fd, &status) == 0 else { throw .cannotOpen(path: path, errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(path: path) }
    let count = Int(status.st_size)
    guard count > 0 else { throw .truncated(section: "file", neededBytes: 1, foundBytes: 0) }
    guard let base = mmap(nil, count, PROT_READ, MAP_PRIVATE, fd, 0), base != MAP_FAILED
    else { throw .cannotOpen(path: path, errno: errno) }
    bytes = UnsafeRawBufferPointer(start: base, count: count)
  }

  deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress!), bytes.count) }
}
