/// Writes a `.piom` file: tensor data in order, everything else by itself.
///
/// The file appears under its name when `finish` returns, whole and durable. Without `finish`
/// nothing is left of it.
public struct ModelWriter: ~Copyable {
  // No property has an initial value: Swift 6.0.3 crashes on those of a noncopyable type whose
  // initializer throws.
  public let layout: ModelLayout
  private var file: OutputFile
  private var checksums: [UInt64]
  private var checksum: XXH64
  /// How much of the tensor at hand, number `checksums.count`, is there.
  private var written: Int
  private let tokenizerChecksum: UInt64
  /// Bytes on their way to the file, from `bufferOffset` on.
  private var buffer: [UInt8]
  private var bufferOffset: Int

  /// Throws where `init` would refuse `path` itself; long work is better preceded by it.
  public static func checkTarget(_ path: String, replacing: Bool) throws(ModelFileError) {
    try OutputFile.check(path: path, replacing: replacing)
  }

  /// `encodings`: one for each of `tensorSpecs(for: config)`. Writes no tensor yet.
  public init(
    path: String, config: ModelConfig, encodings: [TensorEncoding], tokenizerSection: [UInt8],
    provenance: Provenance, replacing: Bool
  ) throws(ModelFileError) {
    let layout = try ModelLayout(
      config: config, encodings: encodings, tokenizerByteCount: tokenizerSection.count,
      provenance: provenance)
    if let error = tokenizerSection.withUnsafeBytes({ tokenizerError($0, config) }) { throw error }
    let file = try OutputFile(path: path, replacing: replacing)
    try file.checkSpace(layout.byteCount)
    try file.write(tokenizerSection, at: layout.header.tokenizerOffset)
    self.layout = layout
    self.file = file
    tokenizerChecksum = tokenizerSection.withUnsafeBytes { XXH64.hash($0) }
    (checksums, checksum, written) = ([], XXH64(), 0)
    (buffer, bufferOffset) = ([], 0)
    buffer.reserveCapacity(bufferCapacity)
  }

  /// The next bytes of the tensors, in any chunks; a chunk may reach into the next tensor.
  ///
  /// Throws where there is more than all tensors take.
  public mutating func append(_ bytes: UnsafeRawBufferPointer) throws(ModelFileError) {
    var rest = bytes[...]
    while !rest.isEmpty {
      guard checksums.count < layout.tensors.count else {
        throw .wrongByteCount(section: "tensor data", neededBytes: 0, foundBytes: rest.count)
      }
      let tensor = layout.tensors[checksums.count]
      let chunk = UnsafeRawBufferPointer(rebasing: rest.prefix(tensor.byteCount - written))
      try put(chunk, at: tensor.offset + written)
      checksum.update(chunk)
      written += chunk.count
      rest = rest.dropFirst(chunk.count)
      if written == tensor.byteCount {
        checksums.append(checksum.value)
        checksum = XXH64()
        written = 0
      }
    }
  }

  /// Throws where tensor data is missing, or where the whole file, read again, is not what a reader
  /// accepts with every checksum right; then, and on any other error, no file appears.
  public mutating func finish() throws(ModelFileError) {
    guard checksums.count == layout.tensors.count else {
      let tensor = layout.tensors[checksums.count]
      throw .truncated(
        section: "tensor \(tensor.spec.name)", neededBytes: tensor.byteCount, foundBytes: written)
    }
    try flush()
    let front = layout.front(checksums: checksums, tokenizerChecksum: tokenizerChecksum)
    try file.write(front, at: 0)
    try file.check()
    try file.commit()
  }

  // Gaps between tensors are never written: a file reads as zeros there.
  private mutating func put(
    _ bytes: UnsafeRawBufferPointer, at offset: Int
  ) throws(ModelFileError) {
    if offset != bufferOffset + buffer.count || buffer.count + bytes.count > bufferCapacity {
      try flush()
      bufferOffset = offset
    }
    guard bytes.count <= bufferCapacity / 2 else { return try file.write(bytes, at: offset) }
    buffer.append(contentsOf: bytes)
  }

  private mutating func flush() throws(ModelFileError) {
    try file.write(buffer, at: bufferOffset)
    bufferOffset += buffer.count
    buffer.removeAll(keepingCapacity: true)
  }
}

private let bufferCapacity = 1 << 20
