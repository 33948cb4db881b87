import PIOBase

/// How a source tensor's numbers are stored.
enum SourceType: Equatable, Sendable {
  case f32
  case f16
  case bf16
  /// A type that no weight of ours may have; known only by name.
  case other(String)

  init(_ name: String) {
    switch name {
    case "F32": self = .f32
    case "F16": self = .f16
    case "BF16": self = .bf16
    default: self = .other(name)
    }
  }

  var name: String {
    switch self {
    case .f32: "F32"
    case .f16: "F16"
    case .bf16: "BF16"
    case .other(let name): name
    }
  }

  /// Bytes of one number; nil where that is not known.
  var byteCount: Int? {
    switch self {
    case .f32: 4
    case .f16, .bf16: 2
    case .other(let name):
      switch name {
      case "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0": 1
      case "U16", "I16": 2
      case "U32", "I32": 4
      case "U64", "I64", "F64", "C64": 8
      default: nil
      }
    }
  }
}

/// One tensor of a safetensors file.
struct SourceTensor: Equatable, Sendable {
  let name: String
  let type: SourceType
  let shape: [Int]
  /// From the start of the file.
  let offset: Int
  let byteCount: Int
}

/// What is wrong with a safetensors file.
public enum SafetensorsError: Error, Equatable, Sendable, CustomStringConvertible {
  case truncated(neededBytes: Int, foundBytes: Int)
  case headerTooLong(byteCount: UInt64, limit: Int)
  case header(JSONError)
  case tensor(name: String, problem: String)
  case tooManyTensors(limit: Int)
  /// Bytes that no tensor owns, or that two own.
  case gap(before: String, neededOffset: Int, foundOffset: Int)
  case trailing(byteCount: Int)

  public var description: String {
    switch self {
    case .truncated(let needed, let found):
      "is truncated: \(grouped(found)) of \(grouped(needed)) bytes"
    case .headerTooLong(let byteCount, let limit):
      "is not a safetensors file: a header of \(byteCount) bytes, at most \(grouped(limit)) are read"
    case .header(let error): "has a damaged header: \(error)"
    case .tensor(let name, let problem): "has a damaged header: tensor \(name.shortened) \(problem)"
    case .tooManyTensors(let limit): "has more than \(grouped(limit)) tensors"
    case .gap(let name, let needed, let found):
      "has a damaged header: tensor \(name.shortened) starts at \(grouped(found)),"
        + " not where the one before it ends, \(grouped(needed))"
    case .trailing(let byteCount): "has \(grouped(byteCount)) bytes after its last tensor"
    }
  }
}

/// The directory of one safetensors file: a byte count (u64, little-endian), that many bytes of
/// JSON, then the tensors without gap or overlap.
///
/// Source: the format description of huggingface/safetensors, whose own limit is 100 MB of header.
struct SafetensorsHeader: Sendable {
  /// In file order.
  let tensors: [SourceTensor]

  static let prefixByteCount = 8
  static let headerLimit = 100_000_000
  static let tensorLimit = 131_072
  private static let rankLimit = 8

  /// The header's byte count, from the first eight bytes of a file of `fileByteCount`.
  static func byteCount(
    prefix: UnsafeRawBufferPointer, fileByteCount: Int
  ) throws(SafetensorsError) -> Int {
    guard prefix.count >= prefixByteCount else {
      throw .truncated(neededBytes: prefixByteCount, foundBytes: fileByteCount)
    }
    let stored = UInt64(littleEndian: prefix.loadUnaligned(as: UInt64.self))
    guard stored <= headerLimit else { throw .headerTooLong(byteCount: stored, limit: headerLimit) }
    let needed = Int(stored) + prefixByteCount
    guard fileByteCount >= needed else {
      throw .truncated(neededBytes: needed, foundBytes: fileByteCount)
    }
    return Int(stored)
  }

  /// Checks every number of the header against the file's byte count.
  init(json: UnsafeRawBufferPointer, fileByteCount: Int) throws(SafetensorsError) {
    let dataStart = Self.prefixByteCount + json.count
    var tensors = try Self.entries(json, dataStart: dataStart)
    tensors.sort { ($0.offset, $0.byteCount) < ($1.offset, $1.byteCount) }
    var end = dataStart
    for tensor in tensors {
      guard tensor.offset == end else {
        throw .gap(before: tensor.name, neededOffset: end, foundOffset: tensor.offset)
      }
      end += tensor.byteCount
    }
    guard end <= fileByteCount else {
      throw .truncated(neededBytes: end, foundBytes: fileByteCount)
    }
    guard end == fileByteCount else { throw .trailing(byteCount: fileByteCount - end) }
    self.tensors = tensors
  }

  private static func entries(
    _ json: UnsafeRawBufferPointer, dataStart: Int
  ) throws(SafetensorsError) -> [SourceTensor] {
    var tensors: [SourceTensor] = []
    var names: Set<String> = []
    // A tensor's entry has a dozen values; the metadata may be a long list of strings.
    var reader = JSONReader(json, nodeLimit: 100_000)
    do { try reader.beginObject() } catch { throw .header(error) }
    while let (name, value) = try member(&reader, first: names.isEmpty) {
      guard names.insert(name).inserted else {
        throw .tensor(name: name, problem: "is a duplicate")
      }
      if name == "__metadata__" { continue }
      guard tensors.count < tensorLimit else { throw .tooManyTensors(limit: tensorLimit) }
      tensors.append(try tensor(name, value, dataStart: dataStart))
    }
    do { try reader.end() } catch { throw .header(error) }
    return tensors
  }

  private static func member(
    _ reader: inout JSONReader, first: Bool
  ) throws(SafetensorsError) -> (String, JSONValue)? {
    do {
      guard let name = try reader.nextKey(first: first) else { return nil }
      return (name, try reader.value())
    } catch {
      throw .header(error)
    }
  }

  private static func tensor(
    _ name: String, _ value: JSONValue, dataStart: Int
  ) throws(SafetensorsError) -> SourceTensor {
    func failure(_ problem: String) -> SafetensorsError { .tensor(name: name, problem: problem) }
    guard case .object(let entry) = value, case .string(let typeName)? = entry["dtype"] else {
      throw failure("has no dtype")
    }
    guard let shape = counts(entry["shape"]), shape.count <= rankLimit else {
      throw failure("has no valid shape of at most \(rankLimit) dimensions")
    }
    guard let range = counts(entry["data_offsets"]), range.count == 2, range[0] <= range[1],
      range[1] <= Int.max - dataStart
    else { throw failure("has no valid data_offsets [begin, end]") }
    let type = SourceType(typeName)
    if let size = type.byteCount {
      guard let needed = product(shape, size) else { throw failure("has a shape that overflows") }
      guard needed == range[1] - range[0] else {
        throw failure(
          "of \(type.name) \(shape) takes \(grouped(needed)) bytes,"
            + " not the \(grouped(range[1] - range[0])) of its data_offsets")
      }
    }
    return SourceTensor(
      name: name, type: type, shape: shape, offset: dataStart + range[0],
      byteCount: range[1] - range[0])
  }

  /// An array of numbers that are not negative.
  private static func counts(_ value: JSONValue?) -> [Int]? {
    guard case .array(let elements)? = value else { return nil }
    var counts: [Int] = []
    for element in elements {
      guard case .integer(let count) = element, count >= 0 else { return nil }
      counts.append(count)
    }
    return counts
  }

  private static func product(_ shape: [Int], _ size: Int) -> Int? {
    if shape.contains(0) { return 0 }
    var total = size
    for count in shape {
      let (next, overflow) = total.multipliedReportingOverflow(by: count)
      guard !overflow else { return nil }
      total = next
    }
    return total
  }
}

/// `1234567` as `1,234,567`.
func grouped(_ count: Int) -> String {
  var text = ""
  let digits = String(count.magnitude)
  for (i, digit) in digits.enumerated() {
    if i > 0, (digits.count - i) % 3 == 0 { text += "," }
    text.append(digit)
  }
  return (count < 0 ? "-" : "") + text
}
