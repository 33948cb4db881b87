import PIOBase

/// What is wrong with a GGUF file.
public enum GGUFError: Error, Equatable, Sendable, CustomStringConvertible {
  case notGGUF
  case bigEndian
  case unsupportedVersion(found: UInt32)
  case truncated(section: String, neededBytes: Int, foundBytes: Int)
  /// Metadata and directory beyond what is read.
  case frontTooLong(neededBytes: Int, limit: Int)
  case tooMany(what: String, found: UInt64, limit: Int)
  case key(name: String, problem: String)
  case tensor(name: String, problem: String)

  public var description: String {
    switch self {
    case .notGGUF: "is not a GGUF file"
    case .bigEndian: "is a big-endian GGUF file; only little-endian ones are supported"
    case .unsupportedVersion(let found):
      "is GGUF version \(found); versions 2 and 3 are supported"
    case .truncated(let section, let needed, let found):
      "is truncated in its \(section): \(grouped(found)) of \(grouped(needed)) bytes"
    case .frontTooLong(let needed, let limit):
      "has \(grouped(needed)) bytes or more of metadata, at most \(grouped(limit)) are read"
    case .tooMany(let what, let found, let limit):
      "claims to have \(found) \(what), at most \(grouped(limit)) are supported"
    case .key(let name, let problem): "has damaged metadata: key \(name.shortened) \(problem)"
    case .tensor(let name, let problem):
      "has a damaged directory: tensor \(name.shortened) \(problem)"
    }
  }
}
