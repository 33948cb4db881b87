/// One tensor of a file: what it is, how it is stored, where it lies.
public struct TensorEntry: Equatable, Sendable {
  public let spec: TensorSpec
  public let encoding: TensorEncoding
  /// From the start of the file; a multiple of 64.
  public let offset: Int
  public let byteCount: Int
  /// XXH64 of the tensor's bytes.
  public let checksum: UInt64
}

/// The 48 bytes of a directory entry: `formats/PIOM.md` §4.
struct DirectoryEntry: Equatable {
  static let byteCount = 48

  var offset: UInt64
  var byteCount: UInt64
  var checksum: UInt64
  var rows: UInt32
  var columns: UInt32
  var kind: UInt8
  var layout: UInt8
  var group: UInt16
  var nameByteCount: UInt16
  var sectionKind: UInt16
  var sectionIndex: UInt32

  init(_ tensor: TensorEntry) {
    offset = UInt64(tensor.offset)
    byteCount = UInt64(tensor.byteCount)
    checksum = tensor.checksum
    rows = UInt32(tensor.spec.shape.rows)
    columns = UInt32(tensor.spec.shape.columns)
    kind = tensor.encoding.kind.rawValue
    layout = tensor.encoding.layout.rawValue
    group = UInt16(tensor.encoding.group)
    nameByteCount = UInt16(tensor.spec.name.utf8.count)
    (sectionKind, sectionIndex) = tensor.spec.section.code
  }

  init(_ reader: inout ByteReader) throws(ModelFileError) {
    offset = try reader.integer(UInt64.self)
    byteCount = try reader.integer(UInt64.self)
    checksum = try reader.integer(UInt64.self)
    rows = try reader.integer(UInt32.self)
    columns = try reader.integer(UInt32.self)
    kind = try reader.integer(UInt8.self)
    layout = try reader.integer(UInt8.self)
    group = try reader.integer(UInt16.self)
    nameByteCount = try reader.integer(UInt16.self)
    sectionKind = try reader.integer(UInt16.self)
    sectionIndex = try reader.integer(UInt32.self)
    guard try reader.integer(UInt32.self) == 0 else {
      throw .padding(offset: ModelFileHeader.byteCount + reader.position - 4)
    }
  }

  func append(to out: inout [UInt8]) {
    out.append(integer: offset)
    out.append(integer: byteCount)
    out.append(integer: checksum)
    out.append(integer: rows)
    out.append(integer: columns)
    out.append(integer: kind)
    out.append(integer: layout)
    out.append(integer: group)
    out.append(integer: nameByteCount)
    out.append(integer: sectionKind)
    out.append(integer: sectionIndex)
    out.append(integer: UInt32(0))
  }

  /// The encoding, where its numbers are known and `role` allows it.
  func encoding(for spec: TensorSpec) throws(ModelFileError) -> TensorEncoding {
    let code = "kind \(kind), layout \(layout), group \(group)"
    guard let kind = TensorKind(rawValue: kind), let layout = TensorLayout(rawValue: layout),
      case let encoding = TensorEncoding(kind: kind, layout: layout, group: Int(group)),
      spec.role.allows(encoding)
    else {
      throw .tensor(
        name: spec.name, field: "encoding", needed: "one that a \(spec.role) may have", found: code)
    }
    return encoding
  }
}

extension TensorSection {
  /// The section's numbers in the directory.
  var code: (kind: UInt16, index: UInt32) {
    switch self {
    case .embedding: (0, 0)
    case .visionEmbedding: (1, 0)
    case .visionLayer(let layer): (2, UInt32(layer))
    case .projector: (3, 0)
    case .decoderLayer(let layer): (4, UInt32(layer))
    case .head: (5, 0)
    case .deepstack(let index): (6, UInt32(index))
    }
  }
}

/// Places tensors one behind the other: each on 64 bytes, each section's first on 64 KiB.
struct TensorPlacement {
  private(set) var end: Int
  private var section: TensorSection?

  /// `start`: where tensor data begins, a multiple of 64 KiB.
  init(start: Int) { end = start }

  /// The offset of the next tensor, or nil where the file would grow beyond its bound.
  mutating func place(_ tensorSection: TensorSection, byteCount: Int) -> Int? {
    let aligned =
      section == tensorSection ? ModelLimits.tensorAlignment : ModelLimits.sectionAlignment
    let offset = roundUp(end, aligned)
    guard byteCount <= ModelLimits.fileBytes - offset else { return nil }
    section = tensorSection
    end = offset + byteCount
    return offset
  }
}
