/// Why a text is not the JSON we read, and where.
public struct JSONError: Error, Equatable, Sendable, CustomStringConvertible {
  public let offset: Int
  public let problem: String

  package init(offset: Int, problem: String) {
    self.offset = offset
    self.problem = problem
  }

  public var description: String { "\(problem) at byte \(offset)" }
}

/// A small JSON document. Objects keep no order; a key is in them once.
package enum JSONValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
  case array([JSONValue])
  case object([String: JSONValue])
}

/// Reads JSON (RFC 8259) from bytes that may be hostile, a piece at a time.
///
/// The caller walks objects key by key, so that a header of 100 MB needs no tree. `value` builds
/// at most `nodeLimit` nodes, nesting ends at `depthLimit`, a key may be in an object once.
package struct JSONReader {
  private let bytes: UnsafeRawBufferPointer
  package private(set) var offset = 0
  let nodeLimit: Int
  private static let depthLimit = 64

  package init(_ bytes: UnsafeRawBufferPointer, nodeLimit: Int) {
    self.bytes = bytes
    self.nodeLimit = nodeLimit
  }

  /// The whole text as one value.
  package static func parse(
    _ bytes: UnsafeRawBufferPointer, nodeLimit: Int
  ) throws(JSONError) -> JSONValue {
    var reader = JSONReader(bytes, nodeLimit: nodeLimit)
    let value = try reader.value()
    try reader.end()
    return value
  }

  /// The next value, whatever it is.
  package mutating func value() throws(JSONError) -> JSONValue {
    var nodes = 0
    return try value(depth: 0, nodes: &nodes)
  }

  package mutating func beginObject() throws(JSONError) { try expect(UInt8(ascii: "{")) }

  /// The next key of the object that was begun, its colon read too; nil at the object's end.
  package mutating func nextKey(first: Bool) throws(JSONError) -> String? {
    if try peek() == UInt8(ascii: "}") {
      offset += 1
      return nil
    }
    if !first { try expect(UInt8(ascii: ",")) }
    let key = try string()
    try expect(UInt8(ascii: ":"))
    return key
  }

  /// Nothing but white space may follow.
  package mutating func end() throws(JSONError) {
    skipSpace()
    guard offset == bytes.count else { throw failure("unexpected data after the end") }
  }

  func failure(_ problem: String) -> JSONError { JSONError(offset: offset, problem: problem) }
}

extension JSONReader {
  private mutating func value(depth: Int, nodes: inout Int) throws(JSONError) -> JSONValue {
    guard depth < Self.depthLimit else {
      throw failure("nesting deeper than \(Self.depthLimit) levels")
    }
    nodes += 1
    guard nodes <= nodeLimit else { throw failure("more than \(nodeLimit) values") }
    switch try peek() {
    case UInt8(ascii: "{"): return try object(depth: depth, nodes: &nodes)
    case UInt8(ascii: "["): return try array(depth: depth, nodes: &nodes)
    case UInt8(ascii: "\""): return .string(try string())
    case UInt8(ascii: "t"): return try literal("true", .bool(true))
    case UInt8(ascii: "f"): return try literal("false", .bool(false))
    case UInt8(ascii: "n"): return try literal("null", .null)
    default: return try number()
    }
  }

  private mutating func object(depth: Int, nodes: inout Int) throws(JSONError) -> JSONValue {
    try beginObject()
    var members: [String: JSONValue] = [:]
    while let key = try nextKey(first: members.isEmpty) {
      let member = try value(depth: depth + 1, nodes: &nodes)
      guard members.updateValue(member, forKey: key) == nil else {
        throw failure("duplicate key '\(key.shortened)'")
      }
    }
    return .object(members)
  }

  private mutating func array(depth: Int, nodes: inout Int) throws(JSONError) -> JSONValue {
    try expect(UInt8(ascii: "["))
    var elements: [JSONValue] = []
    while try peek() != UInt8(ascii: "]") {
      if !elements.isEmpty { try expect(UInt8(ascii: ",")) }
      elements.append(try value(depth: depth + 1, nodes: &nodes))
    }
    offset += 1
    return .array(elements)
  }

  private mutating func literal(
    _ text: StaticString, _ value: JSONValue
  ) throws(JSONError) -> JSONValue {
    for i in 0..<text.utf8CodeUnitCount {
      guard offset < bytes.count, bytes[offset] == text.utf8Start[i] else {
        throw failure("expected '\(text)'")
      }
      offset += 1
    }
    return value
  }

  private mutating func number() throws(JSONError) -> JSONValue {
    let start = offset
    var isInteger = true
    if byte == UInt8(ascii: "-") { offset += 1 }
    if byte == UInt8(ascii: "0") { offset += 1 } else { try digits() }
    if byte == UInt8(ascii: ".") {
      isInteger = false
      offset += 1
      try digits()
    }
    if byte == UInt8(ascii: "e") || byte == UInt8(ascii: "E") {
      isInteger = false
      offset += 1
      if byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-") { offset += 1 }
      try digits()
    }
    guard offset - start <= 400 else { throw failure("number too long") }
    let text = String(decoding: bytes[start..<offset], as: UTF8.self)
    if isInteger, let integer = Int(text) { return .integer(integer) }
    guard let number = Double(text), number.isFinite else {
      throw failure("number too large")
    }
    return .number(number)
  }

  private mutating func digits() throws(JSONError) {
    let start = offset
    while let digit = byte, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(digit) { offset += 1 }
    guard offset > start else { throw failure("expected a value") }
  }

  private mutating func string() throws(JSONError) -> String {
    try expect(UInt8(ascii: "\""))
    var text: [UInt8] = []
    while let next = byte {
      offset += 1
      switch next {
      case UInt8(ascii: "\""):
        guard let string = String(validating: text, as: UTF8.self) else {
          throw failure("string that is not UTF-8")
        }
        return string
      case UInt8(ascii: "\\"): try escape(into: &text)
      case 0..<0x20: throw failure("control character in a string")
      default: text.append(next)
      }
    }
    throw failure("unexpected end inside a string")
  }

  private mutating func escape(into text: inout [UInt8]) throws(JSONError) {
    guard let kind = byte else { throw failure("unexpected end inside a string") }
    offset += 1
    switch kind {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(kind)
    case UInt8(ascii: "b"): text.append(8)
    case UInt8(ascii: "f"): text.append(12)
    case UInt8(ascii: "n"): text.append(10)
    case UInt8(ascii: "r"): text.append(13)
    case UInt8(ascii: "t"): text.append(9)
    case UInt8(ascii: "u"): text.append(contentsOf: Array(String(try escapedScalar()).utf8))
    default: throw failure("unknown escape")
    }
  }

  /// The scalar of `\uXXXX`, or of two of them where the first is half of a surrogate pair.
  private mutating func escapedScalar() throws(JSONError) -> Unicode.Scalar {
    let first = try hexadecimal()
    if let scalar = Unicode.Scalar(first) { return scalar }
    guard first < 0xDC00, byte == UInt8(ascii: "\\") else { throw failure("unpaired surrogate") }
    offset += 1
    guard byte == UInt8(ascii: "u") else { throw failure("unpaired surrogate") }
    offset += 1
    let second = try hexadecimal()
    guard (0xDC00...0xDFFF).contains(second),
      let scalar = Unicode.Scalar(0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00))
    else { throw failure("unpaired surrogate") }
    return scalar
  }

  private mutating func hexadecimal() throws(JSONError) -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let next = byte, let digit = Character(Unicode.Scalar(next)).hexDigitValue else {
        throw failure("expected four hexadecimal digits")
      }
      code = code << 4 | UInt32(digit)
      offset += 1
    }
    return code
  }

  private var byte: UInt8? { offset < bytes.count ? bytes[offset] : nil }

  private mutating func skipSpace() {
    while let next = byte, next == 0x20 || next == 0x0A || next == 0x0D || next == 0x09 {
      offset += 1
    }
  }

  /// The next byte that is no white space, not consumed.
  private mutating func peek() throws(JSONError) -> UInt8 {
    skipSpace()
    guard let next = byte else { throw failure("unexpected end") }
    return next
  }

  private mutating func expect(_ wanted: UInt8) throws(JSONError) {
    guard try peek() == wanted else {
      throw failure("expected '\(Character(Unicode.Scalar(wanted)))'")
    }
    offset += 1
  }
}

extension String {
  /// What an error message may quote of a name from outside: one line, not too long.
  package var shortened: String {
    var text = ""
    for scalar in unicodeScalars.prefix(120) {
      text.unicodeScalars.append(scalar.properties.generalCategory == .control ? "?" : scalar)
    }
    return unicodeScalars.count > 120 ? text + "…" : text
  }
}
