import Foundation
import Testing

@testable import PIOConvert

let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent()

func golden(_ name: String) -> String {
  repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)").path
}

/// A folder of its own, gone with the value.
final class TemporaryFolder {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory
      .appendingPathComponent("pioedge-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  var contents: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
}

/// A golden checkpoint in memory, to be changed and written somewhere else.
struct CheckpointFixture {
  struct Tensor {
    var name: String
    var type: String
    var shape: [Int]
    var bytes: [UInt8]
  }
  var config: [String: Any]
  var processor: [String: Any]?
  var tensors: [Tensor]
  private let origin: String

  init(_ name: String) throws {
    origin = golden(name)
    config = try Self.object("\(origin)/config.json")!
    processor = try Self.object("\(origin)/processor_config.json")
    let checkpoint = try Checkpoint(folder: origin)
    tensors = try checkpoint.tensors.sorted { $0.key < $1.key }.map { name, location in
      var bytes = [UInt8](repeating: 0, count: location.tensor.byteCount)
      try bytes.withUnsafeMutableBytes { try checkpoint.read(location, into: $0, at: 0) }
      return Tensor(
        name: name, type: location.tensor.type.name, shape: location.tensor.shape, bytes: bytes)
    }
  }

  private static func object(_ path: String) throws -> [String: Any]? {
    guard let data = FileManager.default.contents(atPath: path) else { return nil }
    return try JSONSerialization.jsonObject(with: data) as? [String: Any]
  }

  /// Sets `a.b` of config.json; nil removes it.
  mutating func set(_ path: String, _ value: Any?) { Self.set(&config, path, value) }
  mutating func setProcessor(_ path: String, _ value: Any?) {
    Self.set(&processor!, "image_processor." + path, value)
  }

  private static func set(_ object: inout [String: Any], _ path: String, _ value: Any?) {
    let parts = path.split(separator: ".", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { return object[parts[0]] = value }
    var inner = object[parts[0]] as? [String: Any] ?? [:]
    set(&inner, parts[1], value)
    object[parts[0]] = inner
  }

  subscript(name: String) -> Tensor {
    get { tensors[tensors.firstIndex { $0.name == name }!] }
    set { tensors[tensors.firstIndex { $0.name == name }!] = newValue }
  }

  /// The safetensors file of these tensors.
  func weights() throws -> Data {
    var header: [String: Any] = [:]
    var data = Data()
    for tensor in tensors {
      header[tensor.name] = [
        "dtype": tensor.type, "shape": tensor.shape,
        "data_offsets": [data.count, data.count + tensor.bytes.count],
      ]
      data += tensor.bytes
    }
    return safetensors(try JSONSerialization.data(withJSONObject: header), data)
  }

  func write(to folder: TemporaryFolder) throws {
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
      let target = "\(folder.path)/\(name)"
      try? FileManager.default.removeItem(atPath: target)
      try FileManager.default.copyItem(atPath: "\(origin)/\(name)", toPath: target)
    }
    func write(_ data: Data, _ name: String) throws {
      try data.write(to: URL(fileURLWithPath: "\(folder.path)/\(name)"))
    }
    try write(JSONSerialization.data(withJSONObject: config), "config.json")
    if let processor {
      try write(JSONSerialization.data(withJSONObject: processor), "processor_config.json")
    }
    try write(weights(), "model.safetensors")
  }
}

func safetensors(_ header: Data, _ data: Data) -> Data {
  withUnsafeBytes(of: UInt64(header.count).littleEndian) { Data($0) } + header + data
}

/// Converts and returns the error, if any.
func conversionError(_ options: ConvertOptions) -> ConvertError? {
  do throws(ConvertError) {
    try convert(options)
    return nil
  } catch {
    return error
  }
}
