import Glibc

/// The input as files of a folder in memory: parts between bytes of 0, each the contents of the next name.
///
/// A part that is missing is a file that is not there.
final class Files: Sendable {
  let folder: String
  private let names: [String]

  init(_ names: [String]) {
    self.names = names
    // The script's own, which it removes.
    folder = getenv("FUZZ_FILES").map { String(cString: $0) } ?? "."
  }

  /// The first file alone, with bytes of 0.
  func fill(whole input: UnsafeBufferPointer<UInt8>) {
    write(input, to: folder + "/" + names[0])
  }

  func fill(_ input: UnsafeBufferPointer<UInt8>) {
    var rest = input[...]
    for (index, name) in names.enumerated() {
      let path = folder + "/" + name
      guard index == 0 || !rest.isEmpty else {
        unlink(path)
        continue
      }
      let end = rest.firstIndex(of: 0) ?? rest.endIndex
      write(UnsafeBufferPointer(rebasing: rest[..<end]), to: path)
      rest = rest[min(rest.endIndex, end + 1)...]
    }
  }

  private func write(_ bytes: UnsafeBufferPointer<UInt8>, to path: String) {
    let descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    precondition(
      descriptor >= 0 && Glibc.write(descriptor, bytes.baseAddress, bytes.count) == bytes.count)
    close(descriptor)
  }
}

/// What is told of an error is one line.
func checkLine(_ error: some Error) {
  guard "\(error)".contains(where: \.isNewline) else { return }
  print("an error of several lines: \(error)")
  fflush(nil)
  abort()
}
