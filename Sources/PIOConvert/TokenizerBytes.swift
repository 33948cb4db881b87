/// The character that stands for a byte in the vocabulary of a byte-level BPE.
///
/// Printable Latin-1 stands for itself; the other 68 bytes are U+0100 and following, in order.
func byteLevelScalar(_ byte: UInt8) -> Unicode.Scalar {
  switch byte {
  case 33...126, 161...172, 174...255: Unicode.Scalar(byte)
  default: Unicode.Scalar(UInt8(0)).shifted(by: 256 + hiddenBytes(below: byte))
  }
}

/// The bytes a piece of a byte-level vocabulary stands for; nil where a character stands for none.
func byteLevelBytes(_ content: [UInt8]) -> [UInt8]? {
  var bytes: [UInt8] = []
  for scalar in String(decoding: content, as: UTF8.self).unicodeScalars {
    guard let byte = byteOfScalar[scalar] else { return nil }
    bytes.append(byte)
  }
  return bytes
}

/// The byte that `<0x0A>` stands for.
func fallbackByte(_ text: [UInt8]) -> UInt8? {
  guard text.count == 6, text.starts(with: Array("<0x".utf8)), text[5] == UInt8(ascii: ">")
  else { return nil }
  return UInt8(String(decoding: text[3..<5], as: UTF8.self), radix: 16)
}

/// `▁` replaced by a space.
func withSpaces(_ content: [UInt8]) -> [UInt8] {
  var (out, i) = ([UInt8](), 0)
  while i < content.count {
    if content[i...].starts(with: spaceMarkBytes) {
      out.append(0x20)
      i += spaceMarkBytes.count
    } else {
      out.append(content[i])
      i += 1
    }
  }
  return out
}

/// How many bytes below this one do not stand for themselves.
private func hiddenBytes(below byte: UInt8) -> UInt32 {
  switch byte {
  case 0...32: UInt32(byte)
  case 127...160: UInt32(byte) - 127 + 33
  default: 67  // 173, the soft hyphen
  }
}

private let byteOfScalar: [Unicode.Scalar: UInt8] = Dictionary(
  uniqueKeysWithValues: (UInt8.min...UInt8.max).map { (byteLevelScalar($0), $0) })

extension Unicode.Scalar {
  fileprivate func shifted(by count: UInt32) -> Unicode.Scalar {
    Unicode.Scalar(value + count) ?? self
  }
}
