import PIOBase
import Glibc

/// A file opened for reading at offsets, closed when its last owner goes.
final class SourceFile: Sendable {
  let path: String
  let byteCount: Int
  private let descriptor: Int32

  init(path: String) throws(ConvertError) {
    // A pipe would keep the opening waiting for its other end.
    descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw .cannotRead(path: path, errno: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      let code = errno
      close(descriptor)
      throw .cannotRead(path: path, errno: code)
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw .notAFile(path: path)
    }
    self.path = path
    byteCount = Int(status.st_size)
  }

  deinit { close(descriptor) }

  /// Fills `buffer` with the bytes from `offset` on; a file that ends before is an error.
  func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int) throws(ConvertError) {
    var done = 0
    while done < buffer.count {
      let count = pread(
        descriptor, buffer.baseAddress! + done, buffer.count - done, off_t(offset + done))
      if count < 0 {
        if errno == EINTR { continue }
        throw .cannotRead(path: path, errno: errno)
      }
      guard count > 0 else { throw .sourceChanged(path: path) }
      done += count
    }
  }

  /// All bytes of a small file.
  static func contents(of path: String, limit: Int) throws(ConvertError) -> [UInt8] {
    let file = try SourceFile(path: path)
    guard file.byteCount <= limit else {
      throw .fileTooLong(path: path, byteCount: file.byteCount, limit: limit)
    }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: file.byteCount, alignment: 8)
    defer { buffer.deallocate() }
    try file.read(into: buffer, at: 0)
    return Array(buffer)
  }

  /// False where there is no such file; a file that cannot be looked at is not one that is missing.
  static func exists(_ path: String) throws(ConvertError) -> Bool {
    if access(path, F_OK) == 0 { return true }
    guard errno == ENOENT || errno == ENOTDIR else { throw .cannotRead(path: path, errno: errno) }
    return false
  }

  /// A file's JSON as one value.
  static func json(of path: String, name: String) throws(ConvertError) -> JSONValue {
    let bytes = try contents(of: path, limit: 64 << 20)
    return try bytes.withUnsafeBytesJSON(name: name)
  }
}

extension [UInt8] {
  fileprivate func withUnsafeBytesJSON(name: String) throws(ConvertError) -> JSONValue {
    let result = withUnsafeBytes { bytes -> Result<JSONValue, JSONError> in
      do throws(JSONError) {
        return .success(try JSONReader.parse(bytes, nodeLimit: 1_000_000))
      } catch {
        return .failure(error)
      }
    }
    switch result {
    case .success(let value): return value
    case .failure(let error): throw .json(file: name, error)
    }
  }
}

/// The weights of a Hugging Face folder: one safetensors file or the shards of an index.
struct Checkpoint: Sendable {
  let folder: String
  /// In the order of their names; `names[i]` is the plain name of `files[i]`.
  let files: [SourceFile]
  let names: [String]
  /// Every tensor, by the name it has in the checkpoint.
  let tensors: [String: Location]

  struct Location: Sendable {
    let tensor: SourceTensor
    let file: Int
  }

  static let single = "model.safetensors"
  static let index = "model.safetensors.index.json"

  init(folder: String) throws(ConvertError) {
    self.folder = folder
    var owners: [String: String]?
    if try SourceFile.exists("\(folder)/\(Self.index)") {
      owners = try Self.weightMap(folder)
      names = Set(owners!.values).sorted()
    } else if try SourceFile.exists("\(folder)/\(Self.single)") {
      names = [Self.single]
    } else {
      throw .noWeights(folder: folder)
    }
    var files: [SourceFile] = []
    var tensors: [String: Location] = [:]
    for (i, name) in names.enumerated() {
      let file = try SourceFile(path: "\(folder)/\(name)")
      let label = names.count > 1 ? "shard \(i + 1) (\(name))" : name
      for tensor in try Self.header(file, label: label).tensors {
        guard tensors.updateValue(Location(tensor: tensor, file: i), forKey: tensor.name) == nil
        else { throw .duplicateTensor(name: tensor.name) }
      }
      files.append(file)
    }
    if let owners {
      for (tensor, name) in owners.sorted(by: { $0.key < $1.key }) {
        guard let location = tensors[tensor], names[location.file] == name else {
          throw .missingTensor(name: "\(tensor) of \(name)")
        }
      }
    }
    self.files = files
    self.tensors = tensors
  }

  /// Reads rows of a tensor as they are stored; the caller checked the range.
  func read(
    _ location: Location, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
  ) throws(ConvertError) {
    try files[location.file].read(into: buffer, at: location.tensor.offset + offset)
  }

  /// Bytes of the largest tensor as stored: the unit of the converter's memory promise.
  var largestByteCount: Int { tensors.values.reduce(0) { max($0, $1.tensor.byteCount) } }

  private static func header(
    _ file: SourceFile, label: String
  ) throws(ConvertError) -> SafetensorsHeader {
    let prefix = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(SafetensorsHeader.prefixByteCount, file.byteCount), alignment: 8)
    defer { prefix.deallocate() }
    try file.read(into: prefix, at: 0)
    do throws(SafetensorsError) {
      let byteCount = try SafetensorsHeader.byteCount(
        prefix: UnsafeRawBufferPointer(prefix), fileByteCount: file.byteCount)
      let json = UnsafeMutableRawBufferPointer.allocate(byteCount: byteCount, alignment: 8)
      defer { json.deallocate() }
      do throws(ConvertError) {
        try file.read(into: json, at: SafetensorsHeader.prefixByteCount)
      } catch {
        throw .truncated(neededBytes: byteCount + 8, foundBytes: file.byteCount)
      }
      return try SafetensorsHeader(
        json: UnsafeRawBufferPointer(json), fileByteCount: file.byteCount)
    } catch {
      throw .shard(name: label, error)
    }
  }

  /// The index's `weight_map`: which file holds which tensor. Files are plain names, so that an
  /// index cannot point out of its folder.
  private static func weightMap(_ folder: String) throws(ConvertError) -> [String: String] {
    let value = try SourceFile.json(of: "\(folder)/\(index)", name: index)
    guard case .object(let root) = value, case .object(let map)? = root["weight_map"],
      !map.isEmpty
    else { throw .index(problem: "weight_map is missing") }
    var owners: [String: String] = [:]
    for (tensor, value) in map {
      guard case .string(let name) = value else {
        throw .index(problem: "weight_map has no file name for tensor \(tensor.shortened)")
      }
      let isPlain =
        !name.isEmpty && name.utf8.count <= 255 && name.first != "."
        && name.utf8.allSatisfy { $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: "\\") && $0 != 0 }
      guard isPlain else {
        throw .index(problem: "'\(name.shortened)' is not a plain file name")
      }
      owners[tensor] = name
    }
    guard Set(owners.values).count <= 4096 else {
      throw .index(problem: "weight_map names more than 4,096 shards")
    }
    return owners
  }
}
