/// A validated `.piom` file. Sole owner of its mapping: no view outlives it.
///
/// Opening it reads the first part (header, directory, metadata, tokenizer) and checks everything
/// about the file but the numbers in the tensors and the zeros between them: those are `verify`'s.
public struct ModelFile: ~Copyable, @unchecked Sendable {
  private let file: MappedFile
  private var contents: ModelContents

  public init(path: String) throws(ModelFileError) {
    let file = try MappedFile(path: path)
    let contents = try ModelContents(file.bytes)
    self.file = file
    self.contents = contents
  }

  public var config: ModelConfig { contents.config }

  /// The vision half; with `VisionConfig.limitImages` whoever plans for the file or runs it sees smaller images.
  public var vision: VisionConfig? {
    get { contents.config.vision }
    set { contents.config.vision = newValue }
  }

  public var provenance: Provenance { contents.provenance }

  /// In the order of `tensorSpecs(for: config)`, which is also that of their offsets.
  public var tensors: [TensorEntry] { contents.tensors }

  public var byteCount: Int { file.bytes.count }

  /// Differs between files of different content: of the header, whose checksum covers the directory, whose checksums
  /// cover the tensors.
  public var fingerprint: UInt64 { contents.header.bytes.withUnsafeBytes { XXH64.hash($0) } }

  /// The tokenizer's tables, on 64 bytes; empty: the file has none.
  public var tokenizerSection: UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(rebasing: file.bytes[contents.header.tokenizerRange])
  }

  /// The bytes of tensor `index`, on 64 bytes.
  public func data(_ index: Int) -> UnsafeRawBufferPointer {
    let tensor = tensors[index]
    return UnsafeRawBufferPointer(
      rebasing: file.bytes[tensor.offset..<tensor.offset + tensor.byteCount])
  }

  public func index(of name: String) -> Int? { tensors.firstIndex { $0.spec.name == name } }

  /// To bring parts of the file into memory and to drop them.
  public var pages: FilePages { file.pages }

  /// Header, directory, metadata and tokenizer: what opening the file reads.
  public var frontByteCount: Int { contents.header.dataOffset }

  /// Checks the checksum of tensor `index` and the zeros in front of it. What has been read leaves the memory of the
  /// process again, some MiB at a time, so that checking a file takes no more than that.
  public func verify(_ index: Int) throws(ModelFileError) {
    let tensor = tensors[index]
    let start = index > 0 ? tensors[index - 1].offset + tensors[index - 1].byteCount : tensor.offset
    try checkZero(file.bytes, start..<tensor.offset)
    let end = tensor.offset + tensor.byteCount
    var hash = XXH64()
    for piece in stride(from: tensor.offset, to: end, by: 4 << 20) {
      let range = piece..<min(end, piece + 4 << 20)
      hash.update(UnsafeRawBufferPointer(rebasing: file.bytes[range]))
      // A fault brings in more than it needs, and no more than some MiB.
      pages.drop(contents.header.dataOffset..<byteCount, fromCache: false)
    }
    guard hash.value == tensor.checksum else {
      throw .wrongChecksum(section: "tensor \(tensor.spec.name)")
    }
  }

  /// Checks what opening the file does not: every byte of its tensor data.
  public func verify() throws(ModelFileError) {
    for index in tensors.indices { try verify(index) }
  }
}

/// What the first part of a file says, validated.
struct ModelContents {
  var config: ModelConfig
  let provenance: Provenance
  let tensors: [TensorEntry]
  let header: ModelFileHeader

  /// `bytes`: the whole file. Header, directory and metadata are copied before they are read: what
  /// is validated is what is used, even if somebody writes to the file meanwhile.
  init(_ bytes: UnsafeRawBufferPointer) throws(ModelFileError) {
    guard bytes.starts(with: ModelFileHeader.magic.prefix(bytes.count)) else {
      throw .notAModelFile
    }
    guard bytes.count >= ModelFileHeader.byteCount else {
      throw .truncated(
        section: "header", neededBytes: ModelFileHeader.byteCount, foundBytes: bytes.count)
    }
    header = try ModelFileHeader(Array(bytes[..<ModelFileHeader.byteCount]))
    try header.checkByteCount(bytes.count)
    let front = Array(bytes[header.directoryOffset..<header.metadataEnd])
    guard front.withUnsafeBytes({ XXH64.hash($0) }) == header.directoryChecksum else {
      throw .wrongChecksum(section: "directory")
    }
    let metadata = header.metadataOffset - header.directoryOffset
    (config, provenance) = try ModelConfig.decode(front[metadata...])
    try check("header.features", header.features, config.features...config.features)
    tensors = try readDirectory(front[..<metadata], header, tensorSpecs(for: config))
    try checkZero(bytes, header.metadataEnd..<header.tokenizerOffset)
    try checkZero(bytes, header.tokenizerEnd..<header.dataOffset)
    let tokenizer = UnsafeRawBufferPointer(rebasing: bytes[header.tokenizerRange])
    guard XXH64.hash(tokenizer) == header.tokenizerChecksum else {
      throw .wrongChecksum(section: "tokenizer")
    }
    if let error = tokenizerError(tokenizer, config) { throw error }
  }
}

extension ModelFileHeader {
  /// The length must be what the header says: a file cut short, or with something behind its end,
  /// is refused before anything else in it is read.
  fileprivate func checkByteCount(_ found: Int) throws(ModelFileError) {
    guard found >= fileByteCount else {
      throw .truncated(section: "file", neededBytes: fileByteCount, foundBytes: found)
    }
    guard found == fileByteCount else {
      throw .wrongByteCount(section: "file", neededBytes: fileByteCount, foundBytes: found)
    }
    guard dataOffset < found else {
      throw .truncated(section: "tensor data", neededBytes: dataOffset + 1, foundBytes: found)
    }
  }
}

private func checkZero(
  _ bytes: UnsafeRawBufferPointer, _ range: Range<Int>
) throws(ModelFileError) {
  if let index = bytes[range].firstIndex(where: { $0 != 0 }) { throw .padding(offset: index) }
}

/// Holds the directory against the tensors that the configuration asks for: names, shapes, sections,
/// sizes and offsets have one right value each, so that overlaps and holes cannot be expressed.
private func readDirectory(
  _ bytes: ArraySlice<UInt8>, _ header: ModelFileHeader, _ specs: [TensorSpec]
) throws(ModelFileError) -> [TensorEntry] {
  guard specs.count == header.tensorCount else {
    throw .tensorCount(needed: specs.count, found: header.tensorCount)
  }
  var reader = ByteReader(bytes, section: "directory")
  var names = reader
  _ = try names.take(specs.count * DirectoryEntry.byteCount)
  var placement = TensorPlacement(start: header.dataOffset)
  var tensors: [TensorEntry] = []
  tensors.reserveCapacity(specs.count)
  for spec in specs {
    let entry = try DirectoryEntry(&reader)
    let name = try names.take(Int(entry.nameByteCount))
    guard name.elementsEqual(spec.name.utf8) else {
      throw .tensor(
        name: spec.name, field: "name", needed: spec.name, found: printable(name))
    }
    tensors.append(try entry.tensor(spec, &placement))
  }
  try header.checkEnd(names, end: placement.end)
  return tensors
}

extension ModelFileHeader {
  fileprivate func checkEnd(_ names: ByteReader, end: Int) throws(ModelFileError) {
    let used = names.position - names.bytes.startIndex - tensorCount * DirectoryEntry.byteCount
    guard used == namesByteCount else {
      throw .wrongByteCount(section: "names", neededBytes: used, foundBytes: namesByteCount)
    }
    if let index = names.bytes[names.position...].firstIndex(where: { $0 != 0 }) {
      throw .padding(offset: directoryOffset + index - names.bytes.startIndex)
    }
    guard end == fileByteCount else {
      throw .wrongByteCount(section: "tensor data", neededBytes: end, foundBytes: fileByteCount)
    }
  }
}

extension DirectoryEntry {
  fileprivate func tensor(
    _ spec: TensorSpec, _ placement: inout TensorPlacement
  ) throws(ModelFileError) -> TensorEntry {
    func expect(_ field: String, _ needed: Int, _ found: UInt64) throws(ModelFileError) {
      guard UInt64(needed) == found else {
        throw .tensor(name: spec.name, field: field, needed: "\(needed)", found: "\(found)")
      }
    }
    try expect("rows", spec.shape.rows, UInt64(rows))
    try expect("columns", spec.shape.columns, UInt64(columns))
    try expect("section", Int(spec.section.code.kind), UInt64(sectionKind))
    try expect("section index", Int(spec.section.code.index), UInt64(sectionIndex))
    let encoding = try encoding(for: spec)
    guard let size = PIOFormat.byteCount(encoding, spec.shape),
      let place = placement.place(spec.section, byteCount: size)
    else {
      throw .tensor(name: spec.name, field: "size", needed: "less", found: "\(byteCount)")
    }
    try expect("size", size, byteCount)
    try expect("offset", place, offset)
    return TensorEntry(
      spec: spec, encoding: encoding, offset: place, byteCount: size, checksum: checksum)
  }
}

/// A name from a file, safe to print.
private func printable(_ bytes: ArraySlice<UInt8>) -> String {
  String(decoding: bytes.prefix(64).map { (33...126).contains($0) ? $0 : 63 }, as: UTF8.self)
}
