import PIOBase

/// A part of a prompt, by who wrote it.
public enum PromptPiece: Equatable, Sendable {
  /// Of a template: control tokens in it count (`<|im_end|>`, `<image>`).
  case special(String)
  /// Of a user: a control token typed in it is only its characters.
  case text(String)

  public var string: String {
    switch self {
    case .special(let string), .text(let string): string
    }
  }
}

/// Tokens that no user's text may become: the special ones, and those with a role in the model.
struct ControlTokens {
  let tables: TokenizerTables
  /// Ids beside those that the tables flag.
  let others: [Int32]

  func contains(_ id: Int32) -> Bool {
    let isFlagged =
      id >= 0 && Int(id) < tables.pieceFlags.count
      && TokenizerTables.PieceFlags(rawValue: tables.pieceFlags[Int(id)]).contains(.special)
    return isFlagged || others.contains(id)
  }
}

/// The ranges of a text, in bytes, in which no control token is recognised: what a user wrote.
struct LiteralRanges {
  var ranges: [Range<Int>] = []

  func overlaps(_ range: Range<Int>) -> Bool { ranges.contains { $0.overlaps(range) } }

  /// Those of a segment of the text, counted from its start.
  func within(_ segment: Range<Int>) -> LiteralRanges {
    let clipped = ranges.map { $0.clamped(to: segment) }.filter { !$0.isEmpty }
    let start = segment.lowerBound
    return LiteralRanges(ranges: clipped.map { $0.lowerBound - start..<$0.upperBound - start })
  }

  /// The same ranges of the normalized text: all of it that depends on their bytes.
  ///
  /// What stands before a range and what stands behind it are normalized alone; where the whole differs from that,
  /// the range reaches (`>` and U+0338 are one character in NFC).
  func normalized(
    by normalizer: Normalizer, _ text: UnsafeBufferPointer<UInt8>, to whole: [UInt8],
    continues: Bool
  ) -> LiteralRanges {
    LiteralRanges(
      ranges: ranges.map { range in
        let before = normalizer.normalized(
          UnsafeBufferPointer(rebasing: text[..<range.lowerBound]), continues: continues)
        let behind = normalizer.normalized(
          UnsafeBufferPointer(rebasing: text[range.upperBound...]), continues: true)
        let start = zip(before, whole).prefix { $0 == $1 }.count
        let end = whole.count - zip(behind.reversed(), whole.reversed()).prefix { $0 == $1 }.count
        return start..<max(start, end)
      })
  }
}
