/// Where everything of a file will lie, known before its first byte is written.
public struct ModelLayout: Sendable {
  /// In file order; the checksums are still 0.
  public let tensors: [TensorEntry]
  /// The size of the whole file.
  public let byteCount: Int
  let header: ModelFileHeader
  let metadata: [UInt8]

  /// `encodings`: one for each of `tensorSpecs(for: config)`.
  ///
  /// Throws where anything is out of the format's bounds or an encoding is not allowed.
  public init(
    config: ModelConfig, encodings: [TensorEncoding], tokenizerByteCount: Int,
    provenance: Provenance
  ) throws(ModelFileError) {
    try config.validate()
    try provenance.validate()
    let specs = tensorSpecs(for: config)
    guard encodings.count == specs.count else {
      throw .tensorCount(needed: specs.count, found: encodings.count)
    }
    metadata = config.metadata(provenance)
    var header = ModelFileHeader()
    header.features = config.features
    header.tensorCount = specs.count
    header.namesByteCount = specs.reduce(0) { $0 + $1.name.utf8.count }
    header.metadataByteCount = metadata.count
    header.tokenizerByteCount = tokenizerByteCount
    try check("metadata bytes", metadata.count, 1...ModelLimits.metadataBytes)
    try check("tokenizer bytes", tokenizerByteCount, 0...ModelLimits.tokenizerBytes)
    var placement = TensorPlacement(start: header.dataOffset)
    var tensors: [TensorEntry] = []
    for (spec, encoding) in zip(specs, encodings) {
      tensors.append(try place(spec, encoding, &placement))
    }
    header.fileByteCount = placement.end
    self.tensors = tensors
    self.header = header
    byteCount = placement.end
  }

  /// The bytes from the header to the end of the metadata.
  func front(checksums: [UInt64], tokenizerChecksum: UInt64) -> [UInt8] {
    var directory: [UInt8] = []
    for (tensor, checksum) in zip(tensors, checksums) {
      var entry = DirectoryEntry(tensor)
      entry.checksum = checksum
      entry.append(to: &directory)
    }
    for tensor in tensors { directory += tensor.spec.name.utf8 }
    directory.pad(toMultipleOf: 8)
    directory += metadata
    var header = header
    header.tokenizerChecksum = tokenizerChecksum
    header.directoryChecksum = directory.withUnsafeBytes { XXH64.hash($0) }
    return header.bytes + directory
  }
}

private func place(
  _ spec: TensorSpec, _ encoding: TensorEncoding, _ placement: inout TensorPlacement
) throws(ModelFileError) -> TensorEntry {
  guard spec.role.allows(encoding) else {
    throw .tensor(
      name: spec.name, field: "encoding", needed: "one that a \(spec.role) may have",
      found: "\(encoding.kind), \(encoding.layout), group \(encoding.group)")
  }
  guard let size = byteCount(encoding, spec.shape),
    let offset = placement.place(spec.section, byteCount: size)
  else {
    throw .outOfBounds(
      field: "tensor \(spec.name)", found: "an end beyond that",
      allowed: "\(ModelLimits.fileBytes) bytes in the file")
  }
  return TensorEntry(
    spec: spec, encoding: encoding, offset: offset, byteCount: size, checksum: 0)
}
