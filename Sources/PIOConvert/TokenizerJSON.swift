import PIOBase

/// A JSON value whose strings are bytes.
///
/// Pieces of a vocabulary that are canonically equivalent (`é`, composed and not) are different
/// pieces, but equal as Swift strings and so one key of a dictionary: they stay bytes here.
enum PieceJSON {
  case null
  case bool(Bool)
  case number(Double)
  case string([UInt8])
  case array([PieceJSON])
  case object([(key: [UInt8], value: PieceJSON)])

  /// The member of an object; of several the last.
  subscript(_ key: String) -> PieceJSON? {
    guard case .object(let members) = self else { return nil }
    let bytes = Array(key.utf8)
    return members.last { $0.key == bytes }?.value
  }

  /// Nil where the member is missing or null.
  func member(_ key: String) -> PieceJSON? {
    guard let value = self[key], !value.isNull else { return nil }
    return value
  }

  var isNull: Bool { if case .null = self { true } else { false } }
  var bytes: [UInt8]? { if case .string(let bytes) = self { bytes } else { nil } }
  var string: String? { bytes.map { String(decoding: $0, as: UTF8.self) } }
  var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
  var array: [PieceJSON]? { if case .array(let values) = self { values } else { nil } }
  var members: [(key: [UInt8], value: PieceJSON)]? {
    if case .object(let members) = self { members } else { nil }
  }
  /// A whole number that an id can be.
  var id: Int32? { if case .number(let value) = self { Int32(exactly: value) } else { nil } }

  /// Parses one value with nothing but white space around it. Throws the offset of what is wrong.
  static func parse(_ bytes: [UInt8]) throws(PieceJSONError) -> PieceJSON {
    guard String(validating: bytes, as: UTF8.self) != nil else { throw PieceJSONError(offset: 0) }
    var parser = PieceJSONParser(bytes: bytes)
    return try parser.document()
  }
}

extension PieceJSON: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral,
  ExpressibleByIntegerLiteral, ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
  init(stringLiteral text: String) { self = .string(Array(text.utf8)) }
  init(booleanLiteral value: Bool) { self = .bool(value) }
  init(integerLiteral value: Int) { self = .number(Double(value)) }
  init(arrayLiteral values: PieceJSON...) { self = .array(values) }

  /// In this order.
  init(dictionaryLiteral members: (String, PieceJSON)...) {
    self = .object(members.map { (key: Array($0.0.utf8), value: $0.1) })
  }
}

struct PieceJSONError: Error {
  let offset: Int
}

/// Recursive descent over valid UTF-8, at most 64 levels deep.
private struct PieceJSONParser {
  let bytes: [UInt8]
  var i = 0
  var depth = 0

  init(bytes: [UInt8]) { self.bytes = bytes }

  mutating func document() throws(PieceJSONError) -> PieceJSON {
    if bytes.starts(with: [0xEF, 0xBB, 0xBF]) { i = 3 }
    let value = try value()
    skipSpace()
    guard i == bytes.count else { throw wrong }
    return value
  }

  private var wrong: PieceJSONError { PieceJSONError(offset: i) }
  private var byte: UInt8 { i < bytes.count ? bytes[i] : 0 }

  private mutating func skipSpace() {
    while byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { i += 1 }
  }

  private mutating func skip(_ wanted: UInt8) -> Bool {
    skipSpace()
    guard byte == wanted else { return false }
    i += 1
    return true
  }

  private mutating func value() throws(PieceJSONError) -> PieceJSON {
    skipSpace()
    switch byte {
    case UInt8(ascii: "{"): return try nested(isObject: true)
    case UInt8(ascii: "["): return try nested(isObject: false)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try word("true", .bool(true))
    case UInt8(ascii: "f"): return try word("false", .bool(false))
    case UInt8(ascii: "n"): return try word("null", .null)
    default: return try number()
    }
  }

  private mutating func nested(isObject: Bool) throws(PieceJSONError) -> PieceJSON {
    guard depth < 64 else { throw wrong }
    depth += 1
    let value = isObject ? try object() : try array()
    depth -= 1
    return value
  }

  private mutating func word(
    _ text: StaticString, _ value: PieceJSON
  ) throws(PieceJSONError) -> PieceJSON {
    let wanted = UnsafeBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount)
    guard bytes[i...].starts(with: wanted) else { throw wrong }
    i += wanted.count
    return value
  }

  private mutating func object() throws(PieceJSONError) -> PieceJSON {
    i += 1
    var members: [(key: [UInt8], value: PieceJSON)] = []
    if skip(UInt8(ascii: "}")) { return .object([]) }
    repeat {
      skipSpace()
      let key = try string()
      guard skip(UInt8(ascii: ":")) else { throw wrong }
      members.append((key, try value()))
    } while skip(UInt8(ascii: ","))
    guard skip(UInt8(ascii: "}")) else { throw wrong }
    return .object(members)
  }

  private mutating func array() throws(PieceJSONError) -> PieceJSON {
    i += 1
    var values: [PieceJSON] = []
    if skip(UInt8(ascii: "]")) { return .array([]) }
    repeat { values.append(try value()) } while skip(UInt8(ascii: ","))
    guard skip(UInt8(ascii: "]")) else { throw wrong }
    return .array(values)
  }

  private mutating func number() throws(PieceJSONError) -> PieceJSON {
    let start = i
    while "+-.eE0123456789".utf8.contains(byte) { i += 1 }
    let text = String(decoding: bytes[start..<i], as: UTF8.self)
    guard let value = Double(text) else { throw PieceJSONError(offset: start) }
    return .number(value)
  }

  private mutating func string() throws(PieceJSONError) -> [UInt8] {
    guard byte == UInt8(ascii: "\"") else { throw wrong }
    i += 1
    var out: [UInt8] = []
    while true {
      let start = i
      while i < bytes.count && byte != UInt8(ascii: "\"") && byte != UInt8(ascii: "\\") { i += 1 }
      guard i < bytes.count else { throw wrong }
      out += bytes[start..<i]
      i += 1
      if bytes[i - 1] == UInt8(ascii: "\"") { return out }
      try escape(&out)
    }
  }

  private mutating func escape(_ out: inout [UInt8]) throws(PieceJSONError) {
    let kind = byte
    i += 1
    switch kind {
    case UInt8(ascii: "n"): out.append(0x0A)
    case UInt8(ascii: "t"): out.append(0x09)
    case UInt8(ascii: "r"): out.append(0x0D)
    case UInt8(ascii: "b"): out.append(0x08)
    case UInt8(ascii: "f"): out.append(0x0C)
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): out.append(kind)
    case UInt8(ascii: "u"): out += Array(String(Character(try scalar())).utf8)
    default: throw wrong
    }
  }

  /// What `\u` stands for; two of them where it takes a surrogate pair.
  private mutating func scalar() throws(PieceJSONError) -> Unicode.Scalar {
    let first = try hex4()
    if let scalar = Unicode.Scalar(first) { return scalar }
    guard first < 0xDC00, bytes[i...].starts(with: [0x5C, 0x75]) else { throw wrong }
    i += 2
    let second = try hex4()
    guard second >= 0xDC00, second < 0xE000,
      let scalar = Unicode.Scalar(0x10000 + (first - 0xD800) << 10 + (second - 0xDC00))
    else { throw wrong }
    return scalar
  }

  private mutating func hex4() throws(PieceJSONError) -> UInt32 {
    guard i + 4 <= bytes.count,
      let value = UInt32(String(decoding: bytes[i..<i + 4], as: UTF8.self), radix: 16)
    else { throw wrong }
    i += 4
    return value
  }
}
