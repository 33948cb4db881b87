import Glibc
import PIOBase
import PIOFormat
import PIOThreads

/// Why a checkpoint was not converted. Nothing was written, or what was written is gone again.
public enum ConvertError: Error, Equatable, Sendable, CustomStringConvertible {
  case cannotRead(path: String, errno: Int32)
  /// A folder, a pipe, a device.
  case notAFile(path: String)
  case fileTooLong(path: String, byteCount: Int, limit: Int)
  case json(file: String, JSONError)
  /// A key of a configuration file that is missing, malformed or asks for what we do not run.
  case config(file: String, key: String, problem: String)
  case noWeights(folder: String)
  case index(problem: String)
  case shard(name: String, SafetensorsError)
  case gguf(file: String, GGUFError)
  case missingTensor(name: String)
  case duplicateTensor(name: String)
  case wrongShape(tensor: String, needed: [Int], found: [Int])
  case unsupportedType(tensor: String, type: String)
  case unknownTensors(first: String, count: Int)
  case notFinite(tensor: String, row: Int, column: Int)
  case outOfRange(tensor: String, row: Int, column: Int, value: Float, kind: String)
  case kind(problem: String)
  case tokenizer(TokenizerConvertError)
  /// `--mmproj` beside a folder.
  case projectorWithoutGGUF(path: String)
  case sourceChanged(path: String)
  case targetExists(path: String)
  /// The target is a file of the source, by this or another name.
  case targetIsSource(path: String, file: String)
  case model(ModelFileError)
  case threads(ThreadError)
  /// The caller asked for an end.
  case cancelled

  public var description: String {
    switch self {
    case .cannotRead(let path, let errno): "\(path): \(String(cString: strerror(errno)))"
    case .notAFile(let path): "\(path) is not a regular file"
    case .fileTooLong(let path, let byteCount, let limit):
      "\(path) has \(grouped(byteCount)) bytes, more than \(grouped(limit))"
    case .json(let file, let error): "\(file) is not valid JSON: \(error)"
    case .config(let file, let key, let problem): "\(file): \(key) \(problem)"
    case .noWeights(let folder):
      "\(folder) holds neither model.safetensors nor model.safetensors.index.json"
    case .index(let problem): "model.safetensors.index.json: \(problem)"
    case .shard(let name, let error): "\(name) \(error)"
    case .gguf(let file, let error): "\(file.shortened) \(error)"
    case .missingTensor(let name): "tensor \(name.shortened) is missing"
    case .duplicateTensor(let name): "duplicate tensor \(name.shortened)"
    case .wrongShape(let tensor, let needed, let found):
      "tensor \(tensor.shortened) has shape \(found), the configuration needs \(needed)"
    case .unsupportedType(let tensor, let type):
      "tensor \(tensor.shortened) has type \(type.shortened), which is not supported"
    case .unknownTensors(let first, let count):
      "tensor \(first.shortened)\(count > 1 ? " and \(count - 1) more are" : " is")"
        + " not part of the supported architectures"
    case .notFinite(let tensor, let row, let column):
      "tensor \(tensor.shortened) has a NaN or infinity in row \(row), column \(column)"
    case .outOfRange(let tensor, let row, let column, let value, let kind):
      "tensor \(tensor) has \(value) in row \(row), column \(column), too large for \(kind);"
        + " --keep '\(tensor)=f32' keeps it"
    case .kind(let problem): problem
    case .tokenizer(let error): "\(error)"
    case .projectorWithoutGGUF(let path):
      "--mmproj needs a GGUF file as source; \(path) is a folder, which has its vision encoder in it"
    case .sourceChanged(let path): "\(path) changed while it was read"
    case .targetExists(let path): "\(path) exists; --force replaces it"
    case .targetIsSource(let path, let file):
      "\(path) is \(file) of the source, which is not replaced"
    case .model(let error): "\(error)"
    case .threads(let error): "\(error); ask for fewer with --threads"
    case .cancelled: "interrupted; nothing was written"
    }
  }
}
