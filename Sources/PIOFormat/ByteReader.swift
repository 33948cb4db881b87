/// Reads little-endian numbers off owned bytes, front to back, never past their end.
struct ByteReader {
  let section: String
  let bytes: ArraySlice<UInt8>
  private(set) var position: Int

  init(_ bytes: ArraySlice<UInt8>, section: String) {
    self.section = section
    self.bytes = bytes
    position = bytes.startIndex
  }

  var remaining: Int { bytes.endIndex - position }

  mutating func take(_ count: Int) throws(ModelFileError) -> ArraySlice<UInt8> {
    guard count >= 0, count <= remaining else {
      throw .truncated(section: section, neededBytes: count, foundBytes: remaining)
    }
    defer { position += count }
    return bytes[position..<position + count]
  }

  mutating func integer<T: FixedWidthInteger>(_: T.Type) throws(ModelFileError) -> T {
    let slice = try take(MemoryLayout<T>.size)
    return slice.withUnsafeBytes { T(littleEndian: $0.loadUnaligned(as: T.self)) }
  }

  /// A count or a size: 32 bits, without a sign.
  mutating func count() throws(ModelFileError) -> Int { Int(try integer(UInt32.self)) }
}

extension Array where Element == UInt8 {
  mutating func append(integer value: some FixedWidthInteger) {
    Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) }
  }

  mutating func pad(toMultipleOf alignment: Int) {
    append(contentsOf: repeatElement(0, count: roundUp(count, alignment) - count))
  }
}

/// `value` rounded up to a multiple of `alignment`; both small enough not to overflow.
func roundUp(_ value: Int, _ alignment: Int) -> Int {
  (value + alignment - 1) / alignment * alignment
}
