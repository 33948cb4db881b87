import PIOBase

/// `▁` (U+2581), which stands for a space in the vocabularies of SentencePiece.
let spaceMark: [UInt8] = [0xE2, 0x96, 0x81]

/// What a tokenizer does to text before it looks for pieces.
public struct Normalizer: Sendable {
  private let flags: TokenizerTables.Flags

  public init(_ flags: TokenizerTables.Flags) { self.flags = flags }

  public var isIdentity: Bool {
    flags.isDisjoint(with: [.composes, .prepends, .replacesSpaces])
  }

  /// NFC, then `▁` in front, then `▁` for every space, as far as the flags ask for it.
  ///
  /// `text` is valid UTF-8. Empty text stays empty.
  /// `continues`: the text goes on from another one, and gets no `▁` in front.
  public func normalized(_ text: UnsafeBufferPointer<UInt8>, continues: Bool = false) -> [UInt8] {
    if text.isEmpty { return [] }
    let composed = flags.contains(.composes) ? compose(text) : Array(text)
    var out: [UInt8] = flags.contains(.prepends) && !continues ? spaceMark : []
    if flags.contains(.replacesSpaces) {
      appendMarkingSpaces(composed, to: &out)
    } else {
      out += composed
    }
    return out
  }
}

/// Appends text with `▁` in the place of every space.
func appendMarkingSpaces(_ text: some Sequence<UInt8>, to out: inout [UInt8]) {
  for byte in text {
    if byte == 0x20 { out += spaceMark } else { out.append(byte) }
  }
}
