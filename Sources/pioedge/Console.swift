import Glibc

/// Standard output, where a lost byte is an error: a batch on a full disk must not end as if all were well.
final class Output {
  /// Of the first write that failed.
  private var failure: Int32 = 0

  /// All of it at once; after a failure nothing more. `check` tells.
  func write(_ bytes: UnsafeBufferPointer<UInt8>) {
    var rest = bytes[...]
    while failure == 0 && !rest.isEmpty {
      let written = Glibc.write(
        STDOUT_FILENO, UnsafeBufferPointer(rebasing: rest).baseAddress, rest.count)
      if written < 0 && errno != EINTR { failure = errno }
      rest = rest.dropFirst(max(0, written))
    }
  }

  func write(_ text: String) {
    var text = text
    text.withUTF8 { write($0) }
  }

  func check() throws(ConsoleError) {
    guard failure == 0 else { throw .cannotWrite(errno: failure) }
  }
}

/// A whole text and a newline on standard output, or an error.
func printOutput(_ text: String) throws(ConsoleError) {
  let output = Output()
  output.write(text + "\n")
  try output.check()
}

/// Standard input line by line, in bounded memory.
struct Input {
  enum Line {
    case text(String)
    /// Longer than allowed; it has been read to its end and forgotten.
    case tooLong
    case end
  }

  let maxByteCount: Int

  private var buffer: [UInt8] = []
  private var isAtEnd = false

  init(maxByteCount: Int) { self.maxByteCount = maxByteCount }

  /// The next line without its newline.
  mutating func line() throws(ConsoleError) -> Line {
    var searched = 0
    var isTooLong = false
    while true {
      if let end = buffer[searched...].firstIndex(of: 0x0A) {
        let line = Line.text(String(decoding: buffer[..<end], as: UTF8.self))
        buffer.removeSubrange(...end)
        return isTooLong ? .tooLong : line
      }
      if isAtEnd {
        let rest = buffer
        buffer = []
        if isTooLong { return .tooLong }
        return rest.isEmpty ? .end : .text(String(decoding: rest, as: UTF8.self))
      }
      if buffer.count > maxByteCount {
        isTooLong = true
        buffer.removeAll(keepingCapacity: true)
      }
      searched = buffer.count
      try fill()
    }
  }

  /// Everything up to the end.
  mutating func all() throws(ConsoleError) -> String {
    while !isAtEnd {
      guard buffer.count <= maxByteCount else {
        throw .inputTooLong(maxByteCount: maxByteCount)
      }
      try fill()
    }
    return String(decoding: buffer, as: UTF8.self)
  }

  private mutating func fill() throws(ConsoleError) {
    let size = 1 << 16
    let start = buffer.count
    buffer.append(contentsOf: repeatElement(0, count: size))
    let count = buffer.withUnsafeMutableBytes { read(STDIN_FILENO, $0.baseAddress! + start, size) }
    buffer.removeLast(size - max(0, count))
    if count < 0 && errno != EINTR { throw .cannotRead(errno: errno) }
    if count == 0 { isAtEnd = true }
  }
}

enum ConsoleError: Error, CustomStringConvertible {
  case cannotWrite(errno: Int32)
  case cannotRead(errno: Int32)
  case inputTooLong(maxByteCount: Int)

  var description: String {
    switch self {
    case .cannotWrite(let errno):
      "cannot write to standard output: \(String(cString: strerror(errno)))"
    case .cannotRead(let errno): "cannot read standard input: \(String(cString: strerror(errno)))"
    case .inputTooLong(let maxByteCount):
      "the prompt on standard input is longer than \(maxByteCount) bytes"
    }
  }
}

func printError(_ text: String) { writeError(text + "\n") }

/// One line, whatever is in a name that it tells.
func errorLine(_ error: any Error) -> String {
  var line = "error: "
  for scalar in "\(error)".unicodeScalars {
    line.unicodeScalars.append(scalar.properties.generalCategory == .control ? "?" : scalar)
  }
  return line
}
