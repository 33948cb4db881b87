@testable import PIOFormat

/// A file's bytes under a forger's hands: whatever is changed, the checksums are made right again,
/// so that the checks behind them are reached.
struct Forge {
  var bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func integer<T: FixedWidthInteger>(_ offset: Int, _: T.Type) -> T {
    bytes.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: T.self)) }
  }

  mutating func set(_ offset: Int, _ value: some FixedWidthInteger) {
    withUnsafeBytes(of: value.littleEndian) {
      bytes.replaceSubrange(offset..<offset + $0.count, with: $0)
    }
  }

  var tensorCount: Int { Int(integer(24, UInt32.self)) }
  var namesByteCount: Int { Int(integer(28, UInt32.self)) }
  var metadataByteCount: Int { Int(integer(32, UInt32.self)) }
  var tokenizerByteCount: Int { Int(integer(36, UInt32.self)) }
  var namesOffset: Int { 64 + 48 * tensorCount }
  var metadataOffset: Int { (namesOffset + namesByteCount + 7) / 8 * 8 }
  var metadataEnd: Int { metadataOffset + metadataByteCount }
  var tokenizerOffset: Int { (metadataEnd + 63) / 64 * 64 }
  var tokenizerEnd: Int { tokenizerOffset + tokenizerByteCount }
  var dataOffset: Int { (tokenizerEnd + 65_535) / 65_536 * 65_536 }

  /// Where the directory's entry of tensor `index` begins.
  func entry(_ index: Int) -> Int { 64 + 48 * index }

  /// Where the value of a metadata key begins.
  func metadata(_ key: MetadataKey) -> Int {
    var offset = metadataOffset
    while integer(offset, UInt16.self) != key.rawValue {
      offset += 8 + (Int(integer(offset + 4, UInt32.self)) + 7) / 8 * 8
    }
    return offset + 8
  }

  /// Makes every checksum right whose bytes are there.
  mutating func seal() {
    func hash(_ range: Range<Int>) -> UInt64? {
      guard range.upperBound <= bytes.count else { return nil }
      return bytes[range].withUnsafeBytes { XXH64.hash($0) }
    }
    guard bytes.count >= 64 else { return }
    if let value = hash(tokenizerOffset..<tokenizerEnd) { set(40, value) }
    if let value = hash(64..<metadataEnd) { set(48, value) }
    set(56, hash(0..<56)!)
  }

  /// What the reader says to the sealed bytes: nil, or its error.
  func verdict() -> ModelFileError? {
    var sealed = self
    sealed.seal()
    return sealed.bytes.withUnsafeBytes { modelError($0) }
  }
}

/// What the reader says to `bytes` as they are.
func modelError(_ bytes: UnsafeRawBufferPointer) -> ModelFileError? {
  do {
    _ = try ModelContents(bytes)
    return nil
  } catch {
    return error
  }
}

func modelError(_ bytes: some Sequence<UInt8>) -> ModelFileError? {
  Array(bytes).withUnsafeBytes { modelError($0) }
}
