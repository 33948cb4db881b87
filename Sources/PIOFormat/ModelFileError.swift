import Glibc

/// Why a `.piom` file cannot be read or written.
public enum ModelFileError: Error, Equatable {
  case cannotOpen(path: String, errno: Int32)
  /// A folder, a pipe, a device.
  case notAFile(path: String)
  /// The first bytes are not those of a `.piom` file.
  case notAModelFile
  case wrongEndianness(found: UInt16)
  case unsupportedVersion(found: UInt32, supported: UInt32)
  /// Feature bits that this version does not support: the file needs a newer one.
  case unsupportedFeatures(bits: UInt64)
  case truncated(section: String, neededBytes: Int, foundBytes: Int)
  /// A section is not as long as the rest of the file says.
  case wrongByteCount(section: String, neededBytes: Int, foundBytes: Int)
  case wrongChecksum(section: String)
  /// A byte between sections or tensors that is not zero.
  case padding(offset: Int)
  /// A number of the file or of the configuration is out of bounds.
  case outOfBounds(field: String, found: String, allowed: String)
  /// A metadata entry is missing, unknown, repeated, out of order or of the wrong type.
  case metadata(key: String, problem: String)
  /// The directory does not say what the configuration asks for.
  case tensor(name: String, field: String, needed: String, found: String)
  /// The configuration asks for another number of tensors.
  case tensorCount(needed: Int, found: Int)
  case tokenizer(problem: String)

  case exists(path: String)
  case cannotWrite(path: String, errno: Int32)
  case noSpace(path: String, neededBytes: Int, freeBytes: Int)
}

extension ModelFileError: CustomStringConvertible {
  /// One line.
  public var description: String {
    switch self {
    case .cannotOpen, .notAFile, .exists, .cannotWrite, .noSpace: fileDescription
    case .notAModelFile: "not a .piom file: the first bytes are not its signature"
    case .wrongEndianness(let found):
      "the file is not little-endian: mark \(found), needed \(ModelFileHeader.endianMark)"
    case .unsupportedVersion(let found, let supported):
      "format version \(found) is not supported, only \(supported)"
    case .unsupportedFeatures(let bits):
      "the file needs support for \(ModelFeature.names(of: bits).joined(separator: " and "))"
        + ", which this version lacks"
    case .truncated(let section, let needed, let found):
      "\(section) is truncated: \(found) of \(needed) bytes"
    case .wrongByteCount(let section, let needed, let found):
      "\(section) has \(found) bytes, needed \(needed)"
    case .wrongChecksum(let section): "\(section) is damaged: its checksum does not match"
    case .padding(let offset): "the padding byte at \(offset) is not zero"
    case .outOfBounds(let field, let found, let allowed):
      "\(field) is \(found); it must be \(allowed)"
    case .metadata(let key, let problem): "metadata \(key): \(problem)"
    case .tensor(let name, let field, let needed, let found):
      "tensor \(name): \(field) is \(found), needed \(needed)"
    case .tensorCount(let needed, let found):
      "the file has \(found) tensors, its configuration needs \(needed)"
    case .tokenizer(let problem): "tokenizer: \(problem)"
    }
  }

  /// Whether the text says which file it is about.
  public var namesFile: Bool {
    switch self {
    case .cannotOpen, .notAFile, .exists, .cannotWrite, .noSpace: true
    default: false
    }
  }

  private var fileDescription: String {
    switch self {
    case .cannotOpen(let path, let code): "cannot open \(path): \(systemMessage(code))"
    case .notAFile(let path): "\(path) is not a regular file"
    case .exists(let path): "\(path) exists already"
    case .cannotWrite(let path, let code): "cannot write \(path): \(systemMessage(code))"
    case .noSpace(let path, let needed, let free):
      "no space for \(path): \(needed) bytes needed, \(free) free"
    default: ""
    }
  }
}

private func systemMessage(_ code: Int32) -> String { String(cString: strerror(code)) }
