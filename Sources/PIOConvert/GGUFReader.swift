/// The integer at `offset`, which the caller checked.
func littleEndian<T: FixedWidthInteger>(
  _ type: T.Type, _ bytes: [UInt8], _ offset: Int
) -> T {
  bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
}

/// Reads the front of a file that may be hostile.
struct GGUFReader {
  struct Entry {
    let name: String
    let type: UInt32
    let shape: [Int]
    let offset: UInt64
    let byteCount: Int
  }

  let bytes: [UInt8]
  let fileByteCount: Int
  private(set) var offset = 0

  init(bytes: [UInt8], fileByteCount: Int) {
    self.bytes = bytes
    self.fileByteCount = fileByteCount
  }

  /// Magic and version; then how many tensors and keys there are.
  mutating func counts() throws(GGUFError) -> (tensors: Int, keys: Int) {
    guard bytes.starts(with: GGUFHeader.magic) else { throw .notGGUF }
    offset = GGUFHeader.magic.count
    let version = try integer(UInt32.self, "header")
    guard version == 2 || version == 3 else {
      if version.byteSwapped == 2 || version.byteSwapped == 3 { throw .bigEndian }
      throw .unsupportedVersion(found: version)
    }
    let tensors = try integer(UInt64.self, "header")
    guard tensors <= GGUFHeader.tensorLimit else {
      throw .tooMany(what: "tensors", found: tensors, limit: GGUFHeader.tensorLimit)
    }
    let keys = try integer(UInt64.self, "header")
    guard keys <= GGUFHeader.keyLimit else {
      throw .tooMany(what: "keys", found: keys, limit: GGUFHeader.keyLimit)
    }
    return (Int(tensors), Int(keys))
  }

  mutating func member() throws(GGUFError) -> (String, GGUFValue) {
    let key = try name("metadata")
    let type = try valueType(key)
    return (key, try value(type, key))
  }

  mutating func entry() throws(GGUFError) -> Entry {
    let name = try name("directory")
    func failure(_ problem: String) -> GGUFError { .tensor(name: name, problem: problem) }
    let rank = try integer(UInt32.self, "directory")
    guard (1...4).contains(rank) else { throw failure("has \(rank) dimensions, not 1 to 4") }
    var shape: [Int] = []
    var count = 1
    for _ in 0..<rank {
      let dim = try integer(UInt64.self, "directory")
      guard dim >= 1, dim <= UInt64(Int32.max) else {
        throw failure("has a dimension of \(dim), not in 1…\(Int32.max)")
      }
      let (product, overflow) = count.multipliedReportingOverflow(by: Int(dim))
      guard !overflow else { throw failure("has a shape that overflows") }
      count = product
      shape.append(Int(dim))
    }
    let number = try integer(UInt32.self, "directory")
    guard let type = GGMLType(number) else { throw failure("has the unknown type \(number)") }
    guard shape[0] % type.weights == 0 else {
      throw failure(
        "of \(type.name) has rows of \(shape[0]) weights, not a multiple of \(type.weights)")
    }
    let (size, overflow) = (count / type.weights).multipliedReportingOverflow(by: type.bytes)
    guard !overflow else { throw failure("has a shape that overflows") }
    let offset = try integer(UInt64.self, "directory")
    return Entry(
      name: name, type: number, shape: shape.reversed(), offset: offset, byteCount: size)
  }

  // MARK: Values

  private mutating func valueType(_ key: String) throws(GGUFError) -> GGUFValueType {
    let number = try integer(UInt32.self, "metadata")
    guard let type = GGUFValueType(rawValue: number) else {
      throw .key(name: key, problem: "has the unknown type \(number)")
    }
    return type
  }

  private mutating func value(
    _ type: GGUFValueType, _ key: String
  ) throws(GGUFError) -> GGUFValue {
    let section = "metadata"
    switch type {
    case .uint8: return .unsigned(UInt64(try integer(UInt8.self, section)))
    case .int8: return .signed(Int64(try integer(Int8.self, section)))
    case .uint16: return .unsigned(UInt64(try integer(UInt16.self, section)))
    case .int16: return .signed(Int64(try integer(Int16.self, section)))
    case .uint32: return .unsigned(UInt64(try integer(UInt32.self, section)))
    case .int32: return .signed(Int64(try integer(Int32.self, section)))
    case .uint64: return .unsigned(try integer(UInt64.self, section))
    case .int64: return .signed(try integer(Int64.self, section))
    case .float32: return .float(Double(Float(bitPattern: try integer(UInt32.self, section))))
    case .float64: return .float(Double(bitPattern: try integer(UInt64.self, section)))
    case .bool:
      let byte = try integer(UInt8.self, section)
      guard byte <= 1 else {
        throw .key(name: key, problem: "is a boolean with the value \(byte), not 0 or 1")
      }
      return .bool(byte == 1)
    case .string: return .string(try string(section))
    case .array: return try array(key)
    }
  }

  private mutating func array(_ key: String) throws(GGUFError) -> GGUFValue {
    let type = try valueType(key)
    guard type != .array else {
      throw .key(name: key, problem: "is an array of arrays, which is not supported")
    }
    let count = try integer(UInt64.self, "metadata")
    // Before a byte of it is looked at: it must have room in the file.
    guard count <= UInt64((fileByteCount - offset) / type.byteCount) else {
      throw .key(name: key, problem: "has \(count) elements, more than the file has room for")
    }
    let start = offset
    if type == .string {
      for _ in 0..<count { _ = try string("metadata") }
    } else {
      _ = try take(Int(count) * type.byteCount, "metadata")
    }
    return .array(type: type, count: Int(count), range: start..<offset)
  }

  /// A name as the directory and the metadata have it: short and printable.
  private mutating func name(_ section: String) throws(GGUFError) -> String {
    let range = try string(section)
    let text = bytes[range]
    guard !text.isEmpty, text.count <= GGUFHeader.nameLimit,
      text.allSatisfy({ (33...126).contains($0) })
    else {
      let problem = "at byte \(range.lowerBound) has an invalid name"
      throw section == "metadata"
        ? .key(name: "?", problem: problem) : .tensor(name: "?", problem: problem)
    }
    return String(decoding: text, as: UTF8.self)
  }

  private mutating func string(_ section: String) throws(GGUFError) -> Range<Int> {
    let count = try integer(UInt64.self, section)
    guard count <= UInt64(fileByteCount - offset) else {
      throw .truncated(
        section: section, neededBytes: Int(clamping: UInt64(offset) + min(count, 1 << 62)),
        foundBytes: fileByteCount)
    }
    return try take(Int(count), section)
  }

  private mutating func integer<T: FixedWidthInteger>(
    _ type: T.Type, _ section: String
  ) throws(GGUFError) -> T {
    let range = try take(MemoryLayout<T>.size, section)
    return littleEndian(type, bytes, range.lowerBound)
  }

  private mutating func take(_ count: Int, _ section: String) throws(GGUFError) -> Range<Int> {
    let (end, overflow) = offset.addingReportingOverflow(count)
    guard !overflow, end <= bytes.count else {
      throw .truncated(
        section: section, neededBytes: overflow ? Int.max : end,
        foundBytes: min(bytes.count, fileByteCount))
    }
    defer { offset = end }
    return offset..<end
  }
}
