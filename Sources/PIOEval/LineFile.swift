import Glibc

/// A regular file read line by line in bounded memory.
struct LineFile: ~Copyable {
  private let descriptor: Int32
  private let path: String
  private let maxLineBytes: Int
  private let readBytes: Int

  init(path: String, maxLineBytes: Int) throws(EvalError) {
    // Not blocking: a pipe is refused below, not waited for.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else { throw .cannotRead(path: path, errno: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw .notAFile(path: path)
    }
    self.descriptor = descriptor
    self.path = path
    self.maxLineBytes = maxLineBytes
    // A byte more than a small file has.
    readBytes = min(max(Int(status.st_size) + 1, 1 << 10), 1 << 16)
  }

  deinit { close(descriptor) }

  /// Calls `body` with each line, numbered from 1, and whether a newline ends it, until it returns false.
  func forEach(
    _ body: (Int, ArraySlice<UInt8>, _ isWhole: Bool) throws(EvalError) -> Bool
  ) throws(EvalError) {
    var rest: [UInt8] = []
    var searched = 0
    var number = 0
    while true {
      let count = try fill(&rest)
      var start = 0
      while let end = rest[max(start, searched)...].firstIndex(of: 0x0A) {
        number += 1
        try check(end - start, number)
        guard try body(number, rest[start..<end], true) else { return }
        start = end + 1
      }
      rest.removeSubrange(..<start)
      searched = rest.count
      if count == 0 {
        if !rest.isEmpty { _ = try body(number + 1, rest[...], false) }
        return
      }
      try check(rest.count, number + 1)
    }
  }

  private func check(_ byteCount: Int, _ line: Int) throws(EvalError) {
    guard byteCount <= maxLineBytes else {
      throw .lineTooLong(path: path, line: line, maxBytes: maxLineBytes)
    }
  }

  private func fill(_ bytes: inout [UInt8]) throws(EvalError) -> Int {
    let size = readBytes
    let start = bytes.count
    bytes.append(contentsOf: repeatElement(0, count: size))
    var count = 0
    repeat {
      count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress! + start, size) }
    } while count < 0 && errno == EINTR
    let failure = errno
    bytes.removeLast(size - max(0, count))
    guard count >= 0 else { throw .cannotRead(path: path, errno: failure) }
    return count
  }
}
