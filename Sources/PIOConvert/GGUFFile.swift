import Glibc

/// A GGUF file opened: its front is read and checked, the tensors are read by rows later.
struct GGUFFile: Sendable {
  let file: SourceFile
  /// Without its folder.
  let name: String
  let header: GGUFHeader

  /// Reads no more of the file than its front needs, and so many bytes at first.
  init(path: String, firstReading: Int = 1 << 20) throws(ConvertError) {
    file = try SourceFile(path: path)
    name = String(path[(path.lastIndex(of: "/").map(path.index(after:)) ?? path.startIndex)...])
    var byteCount = min(firstReading, file.byteCount)
    while true {
      do throws(GGUFError) {
        header = try GGUFHeader(try Self.front(file, byteCount), fileByteCount: file.byteCount)
        return
      } catch .truncated(_, let needed, byteCount) where byteCount < file.byteCount {
        guard needed <= GGUFHeader.byteLimit else {
          throw .gguf(
            file: name, .frontTooLong(neededBytes: needed, limit: GGUFHeader.byteLimit))
        }
        byteCount = min(max(4 * byteCount, needed), GGUFHeader.byteLimit, file.byteCount)
      } catch {
        throw .gguf(file: name, error)
      }
    }
  }

  private static func front(_ file: SourceFile, _ byteCount: Int) throws(GGUFError) -> [UInt8] {
    var failure: ConvertError?
    let bytes = [UInt8](unsafeUninitializedCapacity: byteCount) { buffer, count in
      do throws(ConvertError) {
        try file.read(
          into: UnsafeMutableRawBufferPointer(
            rebasing: UnsafeMutableRawBufferPointer(buffer)[..<byteCount]), at: 0)
        count = byteCount
      } catch {
        failure = error
      }
    }
    if failure != nil { throw .truncated(section: "header", neededBytes: byteCount, foundBytes: 0) }
    return bytes
  }

  /// Whether `path` is a file at all: a checkpoint of the other kind is a folder.
  /// False where there is nothing; what cannot be looked at is not taken for something else.
  static func isFile(_ path: String) throws(ConvertError) -> Bool {
    var status = stat()
    guard stat(path, &status) == 0 else {
      guard errno == ENOENT || errno == ENOTDIR else {
        throw .cannotRead(path: path, errno: errno)
      }
      return false
    }
    return status.st_mode & S_IFMT != S_IFDIR
  }
}

// MARK: Metadata by type

extension GGUFFile {
  func failure(_ key: String, _ problem: String) -> ConvertError {
    .config(file: name, key: key, problem: problem)
  }

  func has(_ key: String) -> Bool { header.values[key] != nil }

  /// An integer in `range`; nil where the key is missing. A list of equal numbers, as of one a
  /// layer, is that number.
  func int(_ key: String, in range: ClosedRange<Int>) throws(ConvertError) -> Int? {
    guard let value = header.values[key] else { return nil }
    var found: Int?
    switch value {
    case .unsigned(let number): found = Int(exactly: number)
    case .signed(let number): found = Int(exactly: number)
    case .array:
      guard let numbers = try self.numbers(key, atMost: 4096), let first = numbers.first,
        numbers.allSatisfy({ $0 == first })
      else { throw failure(key, "is a list of different numbers, which is not supported") }
      found = Int(exactly: first)
    default: throw failure(key, "is not an integer")
    }
    guard let found else { throw failure(key, "is not an integer") }
    guard range.contains(found) else {
      throw failure(key, "is \(found), not in \(range.lowerBound)…\(range.upperBound)")
    }
    return found
  }

  /// An integer whose key is required.
  func needed(_ key: String, in range: ClosedRange<Int>) throws(ConvertError) -> Int {
    guard let value = try int(key, in: range) else { throw failure(key, "is missing") }
    return value
  }

  /// A finite number; nil where the key is missing.
  func number(_ key: String) throws(ConvertError) -> Double? {
    switch header.values[key] {
    case nil: return nil
    case .float(let value) where value.isFinite: return value
    case .unsigned(let value): return Double(value)
    case .signed(let value): return Double(value)
    default: throw failure(key, "is not a finite number")
    }
  }

  func numbers(_ key: String, atMost limit: Int) throws(ConvertError) -> [Double]? {
    guard let value = header.values[key] else { return nil }
    try checkCount(key, value, atMost: limit)
    guard let numbers = header.numbers(value) else {
      throw failure(key, "is not a list of numbers")
    }
    return numbers
  }

  /// Before the list is made: a file may hold a hundred times more than anybody needs.
  private func checkCount(
    _ key: String, _ value: GGUFValue, atMost limit: Int
  ) throws(ConvertError) {
    guard case .array(_, let count, _) = value, count > limit else { return }
    throw failure(key, "has \(count) elements, at most \(limit) are read")
  }

  func bool(_ key: String, default value: Bool) throws(ConvertError) -> Bool {
    switch header.values[key] {
    case nil: return value
    case .bool(let found): return found
    default: throw failure(key, "is neither true nor false")
    }
  }

  func text(_ key: String) throws(ConvertError) -> String? {
    guard let value = header.values[key] else { return nil }
    guard case .string(let range) = value,
      let text = String(validating: header.bytes[range], as: UTF8.self)
    else { throw failure(key, "is not UTF-8 text") }
    return text
  }

  func strings(_ key: String, atMost limit: Int) throws(ConvertError) -> [ArraySlice<UInt8>]? {
    guard let value = header.values[key] else { return nil }
    try checkCount(key, value, atMost: limit)
    guard let strings = header.strings(value) else {
      throw failure(key, "is not a list of strings")
    }
    return strings
  }

  /// The tensor as a source of weights. Throws for a type we cannot read.
  func weights(
    _ tensor: GGUFTensor, order: RowOrder = .asStored
  ) throws(ConvertError) -> WeightSource {
    guard let type = WeightType(rawValue: tensor.typeNumber) else {
      throw .unsupportedType(
        tensor: tensor.name, type: GGMLType(tensor.typeNumber)?.name ?? "\(tensor.typeNumber)")
    }
    return WeightSource(
      name: tensor.name, file: file, type: type, shape: tensor.shape, offset: tensor.offset,
      byteCount: tensor.byteCount, order: order)
  }
}
