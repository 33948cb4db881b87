import PIOBase

/// One object of a configuration file, with the file's name and the way to it for messages.
///
/// A key that is absent or null takes the default; a value of the wrong type is refused by name.
struct ConfigObject {
  let file: String
  /// `text_config.` for members of that object, empty at the top.
  let path: String
  let members: [String: JSONValue]

  init(file: String, path: String = "", members: [String: JSONValue]) {
    self.file = file
    self.path = path
    self.members = members
  }

  /// The top-level object of `folder/file`.
  init(folder: String, file: String) throws(ConvertError) {
    guard case .object(let members) = try SourceFile.json(of: "\(folder)/\(file)", name: file)
    else { throw .config(file: file, key: "the file", problem: "is not an object") }
    self.init(file: file, members: members)
  }

  subscript(key: String) -> JSONValue? {
    guard let value = members[key], value != .null else { return nil }
    return value
  }

  func failure(_ key: String, _ problem: String) -> ConvertError {
    .config(file: file, key: path + key, problem: problem)
  }

  func unsupported(_ key: String) -> ConvertError {
    failure(key, "\(self[key]?.quoted ?? "null") is not supported")
  }

  func int(_ key: String, default value: Int) throws(ConvertError) -> Int {
    switch self[key] {
    case nil: return value
    case .integer(let found): return found
    default: throw failure(key, "is not an integer")
    }
  }

  func double(_ key: String, default value: Double) throws(ConvertError) -> Double {
    try optionalDouble(key) ?? value
  }

  func optionalDouble(_ key: String) throws(ConvertError) -> Double? {
    switch self[key] {
    case nil: return nil
    case .integer(let found): return Double(found)
    case .number(let found): return found
    default: throw failure(key, "is not a number")
    }
  }

  func bool(_ key: String, default value: Bool) throws(ConvertError) -> Bool {
    switch self[key] {
    case nil: return value
    case .bool(let found): return found
    default: throw failure(key, "is neither true nor false")
    }
  }

  func string(_ key: String, default value: String) throws(ConvertError) -> String {
    switch self[key] {
    case nil: return value
    case .string(let found): return found
    default: throw failure(key, "is not a string")
    }
  }

  /// The object under `key`; nil where there is none.
  func object(_ key: String) throws(ConvertError) -> ConfigObject? {
    switch self[key] {
    case nil: return nil
    case .object(let members):
      return ConfigObject(file: file, path: "\(path)\(key).", members: members)
    default: throw failure(key, "is not an object")
    }
  }

  /// A number in `range`, as a dimension is.
  func count(
    _ key: String, default value: Int, in range: ClosedRange<Int>
  ) throws(ConvertError) -> Int {
    let found = try int(key, default: value)
    guard range.contains(found) else {
      throw failure(key, "is \(found), not in \(range.lowerBound)…\(range.upperBound)")
    }
    return found
  }

  /// Three numbers, or one for all.
  func triple(
    _ key: String, default value: (Double, Double, Double)
  ) throws(ConvertError) -> (Double, Double, Double) {
    switch self[key] {
    case nil: return value
    case .integer(let one): return (Double(one), Double(one), Double(one))
    case .number(let one): return (one, one, one)
    case .array(let elements) where elements.count == 3:
      var numbers: [Double] = []
      for element in elements {
        switch element {
        case .integer(let one): numbers.append(Double(one))
        case .number(let one): numbers.append(one)
        default: throw failure(key, "is not three numbers")
        }
      }
      return (numbers[0], numbers[1], numbers[2])
    default: throw failure(key, "is not three numbers")
    }
  }
}

extension JSONValue {
  /// As an error message shows it.
  var quoted: String {
    switch self {
    case .null: "null"
    case .bool(let value): "\(value)"
    case .integer(let value): "\(value)"
    case .number(let value): "\(value)"
    case .string(let value): "'\(value.shortened)'"
    case .array(let elements):
      elements.count <= 8 ? "[\(elements.map(\.quoted).joined(separator: ", "))]" : "a list"
    case .object: "an object"
    }
  }
}
