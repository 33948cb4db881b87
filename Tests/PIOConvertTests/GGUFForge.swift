import Foundation
import PIOFormat

@testable import PIOConvert

func goldenGGUF(_ name: String) -> String {
  repository.appendingPathComponent("Tests/Golden/gguf/\(name).gguf").path
}

/// A GGUF file taken apart, to be changed and put together again, rightly or wrongly.
struct GGUFForge {
  struct Key {
    var name: String
    /// The value with its type in front, as the file has it.
    var bytes: [UInt8]
  }
  struct Tensor {
    var name: String
    var type: UInt32
    /// As the file has them: columns first.
    var dims: [UInt64]
    var data: [UInt8]
    /// Where the directory says it lies; nil: where it does.
    var offset: UInt64?
  }
  var version: UInt32 = 3
  var keys: [Key] = []
  var tensors: [Tensor] = []
  /// What the header says; nil: what there is.
  var keyCount: UInt64?
  var tensorCount: UInt64?
  var alignment = 32

  init() {}

  init(_ path: String) throws {
    let file = [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
    let header = try GGUFHeader(file, fileByteCount: file.count)
    // The keys as bytes: from each name to the next.
    var offset = 24
    for _ in 0..<header.values.count {
      let start = offset
      let name = Self.string(file, &offset)
      let value = offset
      offset += 4
      Self.skip(file, &offset, type: Self.integer(file, value))
      keys.append(Key(name: name, bytes: Array(file[value..<offset])))
      precondition(start < value)
    }
    tensors = header.tensors.map {
      Tensor(
        name: $0.name, type: $0.typeNumber, dims: $0.shape.reversed().map { UInt64($0) },
        data: Array(file[$0.offset..<$0.offset + $0.byteCount]))
    }
  }

  subscript(key: String) -> [UInt8]? {
    get { keys.first { $0.name == key }?.bytes }
    set {
      let index = keys.firstIndex { $0.name == key }
      if let newValue, let index { keys[index].bytes = newValue }
      if let newValue, index == nil { keys.append(Key(name: key, bytes: newValue)) }
      if newValue == nil, let index { keys.remove(at: index) }
    }
  }

  mutating func change(_ tensor: String, _ body: (inout Tensor) -> Void) {
    body(&tensors[tensors.firstIndex { $0.name == tensor }!])
  }

  var bytes: [UInt8] {
    var out = Array("GGUF".utf8) + le(version)
    out += le(tensorCount ?? UInt64(tensors.count)) + le(keyCount ?? UInt64(keys.count))
    for key in keys { out += Self.text(key.name) + key.bytes }
    var (offset, data) = (0, [UInt8]())
    for tensor in tensors {
      out += Self.text(tensor.name) + le(UInt32(tensor.dims.count))
      for dim in tensor.dims { out += le(dim) }
      out += le(tensor.type) + le(tensor.offset ?? UInt64(offset))
      data += tensor.data
      data += [UInt8](repeating: 0, count: padding(data.count))
      offset = data.count
    }
    return out + [UInt8](repeating: 0, count: padding(out.count)) + data
  }

  private func padding(_ count: Int) -> Int { (alignment - count % alignment) % alignment }

  func write(to folder: TemporaryFolder, _ name: String = "model.gguf") throws -> String {
    let path = "\(folder.path)/\(name)"
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    return path
  }

  // MARK: Values, with their type in front

  static func uint32(_ value: UInt32) -> [UInt8] { le(UInt32(4)) + le(value) }
  static func float(_ value: Float) -> [UInt8] { le(UInt32(6)) + le(value.bitPattern) }
  static func bool(_ value: UInt8) -> [UInt8] { le(UInt32(7)) + [value] }
  static func string(_ value: String) -> [UInt8] { le(UInt32(8)) + text(value) }
  static func strings(_ values: [String]) -> [UInt8] {
    le(UInt32(9)) + le(UInt32(8)) + le(UInt64(values.count)) + values.flatMap(text)
  }
  static func floats(_ values: [Float]) -> [UInt8] {
    le(UInt32(9)) + le(UInt32(6)) + le(UInt64(values.count)) + values.flatMap { le($0.bitPattern) }
  }
  static func ints(_ values: [Int32]) -> [UInt8] {
    le(UInt32(9)) + le(UInt32(5)) + le(UInt64(values.count)) + values.flatMap { le($0) }
  }

  static func text(_ text: String) -> [UInt8] { le(UInt64(text.utf8.count)) + Array(text.utf8) }

  private static func integer(_ bytes: [UInt8], _ offset: Int) -> UInt32 {
    bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
  }

  private static func long(_ bytes: [UInt8], _ offset: Int) -> Int {
    Int(bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt64.self) })
  }

  private static func string(_ bytes: [UInt8], _ offset: inout Int) -> String {
    let count = long(bytes, offset)
    defer { offset += 8 + count }
    return String(decoding: bytes[offset + 8..<offset + 8 + count], as: UTF8.self)
  }

  private static func skip(_ bytes: [UInt8], _ offset: inout Int, type: UInt32) {
    switch type {
    case 8: _ = string(bytes, &offset)
    case 9:
      let (element, count) = (integer(bytes, offset), long(bytes, offset + 4))
      offset += 12
      for _ in 0..<count { skip(bytes, &offset, type: element) }
    default: offset += [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8][Int(type)]
    }
  }
}

/// Little-endian bytes.
func le<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian) { Array($0) }
}

func ggufOptions(
  _ source: String, _ folder: TemporaryFolder, weights: TensorKind? = nil,
  projector: String? = nil, threads: Int = 2
) -> ConvertOptions {
  var options = ConvertOptions(
    source: source, target: folder.path + "/model.piom", rules: EncodingRules(weights: weights),
    threadCount: threads)
  options.projector = projector
  return options
}
