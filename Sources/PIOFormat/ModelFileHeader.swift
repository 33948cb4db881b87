/// The first 64 bytes of a `.piom` file: `formats/PIOM.md` §3.
struct ModelFileHeader: Equatable {
  static let byteCount = 64
  static let magic: [UInt8] = [0x50, 0x49, 0x4F, 0x4D]  // PIOM
  static let endianMark: UInt16 = 0x0102
  static let version: UInt16 = 1

  var features: UInt64 = 0
  var fileByteCount = 0
  var tensorCount = 0
  var namesByteCount = 0
  var metadataByteCount = 0
  var tokenizerByteCount = 0
  var tokenizerChecksum: UInt64 = 0
  /// Of everything from the header's end to the end of the metadata.
  var directoryChecksum: UInt64 = 0

  init() {}

  /// Everything but the file's length is checked here; the order of the checks is part of the
  /// format: a newer version may lay out what follows it anew.
  init(_ bytes: [UInt8]) throws(ModelFileError) {
    var reader = ByteReader(bytes[...], section: "header")
    guard try Array(reader.take(4)) == Self.magic else { throw .notAModelFile }
    let mark = try reader.integer(UInt16.self)
    guard mark == Self.endianMark else { throw .wrongEndianness(found: mark) }
    let version = try reader.integer(UInt16.self)
    guard version == Self.version else {
      throw .unsupportedVersion(found: UInt32(version), supported: UInt32(Self.version))
    }
    let checksum = bytes[..<56].withUnsafeBytes { XXH64.hash($0) }
    features = try reader.integer(UInt64.self)
    let fileByteCount = try reader.integer(UInt64.self)
    tensorCount = try reader.count()
    namesByteCount = try reader.count()
    metadataByteCount = try reader.count()
    tokenizerByteCount = try reader.count()
    tokenizerChecksum = try reader.integer(UInt64.self)
    directoryChecksum = try reader.integer(UInt64.self)
    guard try reader.integer(UInt64.self) == checksum else {
      throw .wrongChecksum(section: "header")
    }
    let missing = features & ~ModelFeature.supportedBits
    guard missing == 0 else { throw .unsupportedFeatures(bits: missing) }
    try check("header.file_bytes", fileByteCount, 64...UInt64(ModelLimits.fileBytes))
    self.fileByteCount = Int(fileByteCount)
    try check("header.tensor_count", tensorCount, 1...ModelLimits.tensors)
    try check("header.names_bytes", namesByteCount, 1...ModelLimits.namesBytes)
    try check("header.metadata_bytes", metadataByteCount, 1...ModelLimits.metadataBytes)
    try check("header.tokenizer_bytes", tokenizerByteCount, 0...ModelLimits.tokenizerBytes)
  }

  var bytes: [UInt8] {
    var out = Self.magic
    out.append(integer: Self.endianMark)
    out.append(integer: Self.version)
    out.append(integer: features)
    out.append(integer: UInt64(fileByteCount))
    for count in [tensorCount, namesByteCount, metadataByteCount, tokenizerByteCount] {
      out.append(integer: UInt32(count))
    }
    out.append(integer: tokenizerChecksum)
    out.append(integer: directoryChecksum)
    out.append(integer: out.withUnsafeBytes { XXH64.hash($0) })
    return out
  }

  // Offsets of what follows; the bounds above keep the sums far from overflow.
  var directoryOffset: Int { Self.byteCount }
  var namesOffset: Int { directoryOffset + tensorCount * DirectoryEntry.byteCount }
  var metadataOffset: Int { roundUp(namesOffset + namesByteCount, 8) }
  var metadataEnd: Int { metadataOffset + metadataByteCount }
  var tokenizerOffset: Int { roundUp(metadataEnd, ModelLimits.tensorAlignment) }
  var tokenizerEnd: Int { tokenizerOffset + tokenizerByteCount }
  var tokenizerRange: Range<Int> { tokenizerOffset..<tokenizerEnd }
  var dataOffset: Int { roundUp(tokenizerEnd, ModelLimits.sectionAlignment) }
}

/// What no `.piom` file exceeds, so that nothing a reader does on its word can get out of hand.
enum ModelLimits {
  static let tensorAlignment = 64
  static let sectionAlignment = 65_536
  static let fileBytes = 1 << 48
  static let tensors = 65_536
  static let namesBytes = 1 << 24
  static let metadataBytes = 1 << 24
  static let tokenizerBytes = 1 << 28
  static let nameBytes = 256
}

func check<T: Comparable>(
  _ field: String, _ value: T, _ allowed: ClosedRange<T>
) throws(ModelFileError) {
  guard allowed.contains(value) else {
    throw .outOfBounds(
      field: field, found: "\(value)", allowed: "\(allowed.lowerBound)...\(allowed.upperBound)")
  }
}
