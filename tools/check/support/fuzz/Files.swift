import Glibc

/// The input as files of a folder: parts between bytes of 0, each the contents of the next name.
///
/// A part that is missing is a file that is not there: the names are links to files that stay, for to make and remove
/// files took more time than to read what they say.
final class Files: Sendable {
  let folder: String
  private let names: [String]
  private let descriptors: [CInt]

  init(_ names: [String]) {
    self.names = names
    // The script's own, which it removes.
    folder = getenv("FUZZ_FILES").map { String(cString: $0) } ?? "."
    descriptors = names.indices.map { [folder] index in
      let descriptor = open("\(folder)/part-\(index)", O_RDWR | O_CREAT, 0o600)
      precondition(descriptor >= 0)
      return descriptor
    }
  }

  /// The first file alone, with bytes of 0.
  func fill(whole input: UnsafeBufferPointer<UInt8>) {
    write(input, to: 0)
  }

  func fill(_ input: UnsafeBufferPointer<UInt8>) {
    var rest = input
    for index in names.indices {
      guard index == 0 || !rest.isEmpty else {
        unlink(path(index))
        continue
      }
      // Not firstIndex: each of its comparisons would be traced.
      let count =
        rest.isEmpty
        ? 0
        : strnlen(
          UnsafeRawPointer(rest.baseAddress!).assumingMemoryBound(to: CChar.self), rest.count)
      write(UnsafeBufferPointer(rebasing: rest[..<count]), to: index)
      rest = UnsafeBufferPointer(rebasing: rest[min(rest.count, count + 1)...])
    }
  }

  private func path(_ index: Int) -> String { folder + "/" + names[index] }

  private func write(_ bytes: UnsafeBufferPointer<UInt8>, to index: Int) {
    let descriptor = descriptors[index]
    precondition(
      ftruncate(descriptor, bytes.count) == 0
        && pwrite(descriptor, bytes.baseAddress, bytes.count, 0) == bytes.count)
    let made = symlink("part-\(index)", path(index))
    precondition(made == 0 || errno == EEXIST)
  }
}

/// What is told of an error is one line.
func checkLine(_ error: some Error) {
  guard "\(error)".contains(where: \.isNewline) else { return }
  print("an error of several lines: \(error)")
  fflush(nil)
  abort()
}
