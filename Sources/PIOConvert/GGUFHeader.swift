import PIOBase

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
/// the tensors follow one another, each on the alignment, all inside the file.
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
        throw .key(name: key, problem: "is a duplicate")
      }
    }
    let alignment = try Self.alignment(values)
    var entries: [GGUFReader.Entry] = []
    for _ in 0..<tensorCount { entries.append(try reader.entry()) }
    let (start, overflow) = reader.offset.addingReportingOverflow(alignment - 1)
    guard !overflow else {
      throw .truncated(section: "directory", neededBytes: Int.max, foundBytes: fileByteCount)
    }
    tensors = try Self.layOut(
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
        throw .key(name: key, problem: "is \(value), not a power of two up to 65,536")
      }
      return Int(value)
    default: throw .key(name: key, problem: "is not an unsigned integer")
    }
  }

  /// Every tensor begins where the one before it ends, rounded up to the alignment.
  private static func layOut(
    _ entries: [GGUFReader.Entry], start: Int, alignment: Int, fileByteCount: Int
  ) throws(GGUFError) -> [GGUFTensor] {
    var tensors: [GGUFTensor] = []
    var names: Set<String> = []
    var next = start
    for entry in entries {
      guard names.insert(entry.name).inserted else {
        throw .tensor(name: entry.name, problem: "is a duplicate")
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
