/// A value of GGUF metadata. Texts and arrays stay in the header's bytes.
enum GGUFValue: Equatable, Sendable {
  case unsigned(UInt64)
  case signed(Int64)
  case float(Double)
  case bool(Bool)
  case string(Range<Int>)
  case array(type: GGUFValueType, count: Int, range: Range<Int>)
}

/// The numbers of the metadata's types.
enum GGUFValueType: UInt32, Sendable {
  case uint8 = 0
  case int8 = 1
  case uint16 = 2
  case int16 = 3
  case uint32 = 4
  case int32 = 5
  case float32 = 6
  case bool = 7
  case string = 8
  case array = 9
  case uint64 = 10
  case int64 = 11
  case float64 = 12

  /// The fewest bytes a value takes; a string has eight of length.
  var byteCount: Int {
    switch self {
    case .uint8, .int8, .bool: 1
    case .uint16, .int16: 2
    case .uint32, .int32, .float32: 4
    case .string, .uint64, .int64, .float64: 8
    case .array: 12
    }
  }
}

/// One tensor of a GGUF file.
struct GGUFTensor: Equatable, Sendable {
  let name: String
  /// Its number in the directory, of a type that is known at least by its size.
  let typeNumber: UInt32
  /// Rows first, as everybody but GGUF writes it.
  let shape: [Int]
  /// From the start of the file.
  let offset: Int
  let byteCount: Int
}

/// The front of a GGUF file: metadata and directory, every number of it checked.
///
/// Counts are bounded before anything is allocated, sizes computed so that they cannot wrap, and
/// the tensors stand one behind the other, each on the alignment, all inside the file.
/// Source: the format description in ggml-org/ggml, docs/gguf.md.
struct GGUFHeader: Sendable {
  /// The file's front; texts and arrays are ranges of it.
  let bytes: [UInt8]
  let values: [String: GGUFValue]
  /// In file order.
  let tensors: [GGUFTensor]

  static let magic: [UInt8] = Array("GGUF".utf8)
  /// Of the metadata and the directory. A vocabulary of 256,000 pieces takes some 10 MB.
  static let byteLimit = 128 << 20
  static let keyLimit = 65_536
  static let tensorLimit = 65_536
  static let nameLimit = 256
  private static let dimLimit = UInt64(1) << 40

  /// `bytes`: the file from its start, at least to the end of the directory; where they end before
  /// it, `truncated` says how many are needed. `fileByteCount`: of the whole file.
  init(_ bytes: [UInt8], fileByteCount: Int) throws(GGUFError) {
    var reader = GGUFReader(bytes: bytes, fileByteCount: fileByteCount)
    let (tensorCount, keyCount) = try reader.counts()
    var values: [String: GGUFValue] = [:]
    for _ in 0..<keyCount {
      let (key, value) = try reader.member()
      guard values.updateValue(value, forKey: key) == nil else {
        throw .key(name: key, problem: "stands twice")
      }
    }
    let alignment = try Self.alignment(values)
    var entries: [GGUFReader.Entry] = []
    for _ in 0..<tensorCount { entries.append(try reader.entry()) }
    let (start, overflow) = reader.offset.addingReportingOverflow(alignment - 1)
    guard !overflow else {
      throw .truncated(section: "directory", neededBytes: Int.max, foundBytes: fileByteCount)
    }
    tensors = try Self.place(
      entries, start: start / alignment * alignment, alignment: alignment,
      fileByteCount: fileByteCount)
    self.bytes = bytes
    self.values = values
  }

  private static func alignment(_ values: [String: GGUFValue]) throws(GGUFError) -> Int {
    let key = "general.alignment"
    switch values[key] {
    case nil: return 32
    case .unsigned(let value):
      guard (1...65_536).contains(value), value & (value - 1) == 0 else {
        throw .key(name: key, problem: "is \(value), no power of two up to 65,536")
      }
      return Int(value)
    default: throw .key(name: key, problem: "is no unsigned number")
    }
  }

  /// Every tensor begins where the one before it ends, rounded up to the alignment.
  private static func place(
    _ entries: [GGUFReader.Entry], start: Int, alignment: Int, fileByteCount: Int
  ) throws(GGUFError) -> [GGUFTensor] {
    var tensors: [GGUFTensor] = []
    var names: Set<String> = []
    var next = start
    for entry in entries {
      guard names.insert(entry.name).inserted else {
        throw .tensor(name: entry.name, problem: "stands twice")
      }
      guard entry.offset <= UInt64(Int.max), next - start == Int(entry.offset) else {
        throw .tensor(
          name: entry.name,
          problem: "starts at \(entry.offset), not where the one before it ends, \(next - start)")
      }
      let (end, overflow) = next.addingReportingOverflow(entry.byteCount)
      guard !overflow, end <= fileByteCount else {
        throw .truncated(
          section: "tensor \(entry.name.shortened)", neededBytes: overflow ? Int.max : end,
          foundBytes: fileByteCount)
      }
      tensors.append(
        GGUFTensor(
          name: entry.name, typeNumber: entry.type, shape: entry.shape, offset: next,
          byteCount: entry.byteCount))
      // `end` is at most the file's length, which is far from where this could wrap.
      next = (end + alignment - 1) / alignment * alignment
    }
    return tensors
  }

  /// The strings of an array, or nil where it is no array of them.
  func strings(_ value: GGUFValue) -> [ArraySlice<UInt8>]? {
    guard case .array(.string, let count, let range) = value else { return nil }
    var strings: [ArraySlice<UInt8>] = []
    strings.reserveCapacity(count)
    var offset = range.lowerBound
    for _ in 0..<count {
      let length = Int(integer(UInt64.self, at: offset))
      strings.append(bytes[offset + 8..<offset + 8 + length])
      offset += 8 + length
    }
    return strings
  }

  /// The numbers of an array, or nil where it is no array of them.
  func numbers(_ value: GGUFValue) -> [Double]? {
    guard case .array(let type, let count, let range) = value, type != .string, type != .array
    else { return nil }
    return (0..<count).map { number(type, at: range.lowerBound + $0 * type.byteCount) }
  }

  private func number(_ type: GGUFValueType, at offset: Int) -> Double {
    switch type {
    case .uint8, .bool: Double(bytes[offset])
    case .int8: Double(integer(Int8.self, at: offset))
    case .uint16: Double(integer(UInt16.self, at: offset))
    case .int16: Double(integer(Int16.self, at: offset))
    case .uint32: Double(integer(UInt32.self, at: offset))
    case .int32: Double(integer(Int32.self, at: offset))
    case .uint64: Double(integer(UInt64.self, at: offset))
    case .int64: Double(integer(Int64.self, at: offset))
    case .float32: Double(Float(bitPattern: integer(UInt32.self, at: offset)))
    case .float64: Double(bitPattern: integer(UInt64.self, at: offset))
    case .string, .array: 0
    }
  }

  private func integer<T: FixedWidthInteger>(_ type: T.Type, at offset: Int) -> T {
    littleEndian(type, bytes, offset)
  }
}

/// The integer at `offset`, which the caller checked.
private func littleEndian<T: FixedWidthInteger>(
  _ type: T.Type, _ bytes: [UInt8], _ offset: Int
) -> T {
  bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
}

/// Walks the front of a file nobody vouches for.
private struct GGUFReader {
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
    guard (1...4).contains(rank) else { throw failure("has \(rank) dimensions, not 1…4") }
    var shape: [Int] = []
    var count = 1
    for _ in 0..<rank {
      let dim = try integer(UInt64.self, "directory")
      guard dim >= 1, dim <= UInt64(Int32.max) else {
        throw failure("has a dimension of \(dim), not 1…\(Int32.max)")
      }
      let (product, overflow) = count.multipliedReportingOverflow(by: Int(dim))
      guard !overflow else { throw failure("has a shape that overflows") }
      count = product
      shape.append(Int(dim))
    }
    let number = try integer(UInt32.self, "directory")
    guard let type = GGMLType(number) else { throw failure("has the unknown type \(number)") }
    guard shape[0] % type.weights == 0 else {
      throw failure("of \(type.name) has rows of \(shape[0]), no multiple of \(type.weights)")
    }
    let (size, overflow) = (count / type.weights).multipliedReportingOverflow(by: type.bytes)
    guard !overflow else { throw failure("has a shape that overflows") }
    let place = try integer(UInt64.self, "directory")
    return Entry(
      name: name, type: number, shape: shape.reversed(), offset: place, byteCount: size)
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
      guard byte <= 1 else { throw .key(name: key, problem: "is a bool of \(byte)") }
      return .bool(byte == 1)
    case .string: return .string(try string(section))
    case .array: return try array(key)
    }
  }

  private mutating func array(_ key: String) throws(GGUFError) -> GGUFValue {
    let type = try valueType(key)
    guard type != .array else { throw .key(name: key, problem: "is an array of arrays") }
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
      let problem = "(at byte \(range.lowerBound)) has a name that is none"
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
