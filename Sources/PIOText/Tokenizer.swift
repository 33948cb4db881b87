import PIOBase

/// Text to token ids and back, over the tables of a model file; equal to Hugging Face `tokenizers`.
///
/// Copies share the tables, which must outlive them.
public struct Tokenizer: Sendable {
  let tables: TokenizerTables
  let control: ControlTokens
  let rawAdded: AddedTokens
  let normalizedAdded: AddedTokens
  let normalizer: Normalizer

  /// `control`: ids that are control tokens beside those that the tables flag as special.
  public init(_ tables: TokenizerTables, control others: [Int32] = []) {
    self.tables = tables
    control = ControlTokens(tables: tables, others: others)
    rawAdded = AddedTokens(tables, control, normalized: false)
    normalizedAdded = AddedTokens(tables, control, normalized: true)
    normalizer = Normalizer(tables.flags)
  }

  /// An upper bound of the bytes one token adds to a text: a byte that is no UTF-8 becomes three.
  public var maxPieceByteCount: Int { 3 * tables.longestPiece }

  /// The ids of a text; added tokens inside it are recognised, special ones too.
  ///
  /// `addSpecialTokens`: with what the post-processor puts around it (`<s>`). `continues`: the text
  /// goes on from one that was encoded before, so that nothing is put in front of it (`▁`).
  /// Takes O(n log n) for n bytes.
  public func encode(_ text: String, addSpecialTokens: Bool, continues: Bool = false) -> [Int32] {
    encode([.special(text)], addSpecialTokens: addSpecialTokens, continues: continues)
  }

  /// The ids of the pieces' joined text; control tokens are recognised outside of `.text` alone.
  ///
  /// All else, words and their merges, is as in the joined text.
  public func encode(
    _ pieces: [PromptPiece], addSpecialTokens: Bool, continues: Bool = false
  ) -> [Int32] {
    var joined = ""
    var literal = LiteralRanges()
    for piece in pieces {
      let start = joined.utf8.count
      joined += piece.string
      guard case .text(let text) = piece, !text.isEmpty else { continue }
      literal.ranges.append(start..<joined.utf8.count)
    }
    return joined.withUTF8 { bytes in
      var encoder = Encoder(self, literal)
      return encoder.encode(bytes, addSpecialTokens: addSpecialTokens, continues: continues)
    }
  }

  /// As above; what is no UTF-8 is taken as U+FFFD.
  public func encode(utf8: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool) -> [Int32] {
    encode(String(decoding: utf8, as: UTF8.self), addSpecialTokens: addSpecialTokens)
  }

  /// The bytes one token stands for: `▁` as a space, a byte token as its byte. Empty for an id
  /// without a piece.
  public func pieceBytes(_ id: Int32) -> UnsafeBufferPointer<UInt8> {
    guard id >= 0, Int(id) < tables.pieceFlags.count else {
      return UnsafeBufferPointer(start: nil, count: 0)
    }
    let range = Int(tables.textOffsets[Int(id)])..<Int(tables.textOffsets[Int(id) + 1])
    return UnsafeBufferPointer(rebasing: tables.texts[range])
  }

  /// The text of a sequence of ids. Ids without a piece count as nothing.
  public func decode(_ ids: [Int32], skipSpecialTokens: Bool) -> String {
    var out: [UInt8] = []
    var run: [UInt8] = []
    var isFirst = true
    for id in ids {
      let flags = pieceFlags(id)
      guard flags.contains(.known), !(skipSpecialTokens && flags.contains(.special)) else {
        continue
      }
      if tables.decoder == .byteFallback && flags.contains(.byte) {
        run += pieceBytes(id)
      } else {
        flush(&run, to: &out)
        if isFirst && dropsSpaces(of: flags) {
          out += pieceBytes(id).filter { $0 != 0x20 }
        } else {
          out += pieceBytes(id)
        }
      }
      isFirst = false
    }
    flush(&run, to: &out)
    if tables.decoder == .byteFallback {
      let spaces = out.prefix(tables.strippedSpaces).prefix { $0 == 0x20 }.count
      out.removeFirst(spaces)
    }
    return String(decoding: out, as: UTF8.self)
  }

  func pieceFlags(_ id: Int32) -> TokenizerTables.PieceFlags {
    guard id >= 0, Int(id) < tables.pieceFlags.count else { return [] }
    return TokenizerTables.PieceFlags(rawValue: tables.pieceFlags[Int(id)])
  }

  /// A Metaspace decoder drops every `▁` of the first piece.
  func dropsSpaces(of flags: TokenizerTables.PieceFlags) -> Bool {
    tables.decoder == .metaspace && tables.strippedSpaces > 0 && flags.contains(.marksSpaces)
  }

  /// A run of byte tokens is text only if it is UTF-8 as a whole; else one U+FFFD a byte.
  private func flush(_ run: inout [UInt8], to out: inout [UInt8]) {
    if run.isEmpty { return }
    if String(validating: run, as: UTF8.self) != nil {
      out += run
    } else {
      for _ in run { out += [0xEF, 0xBF, 0xBD] }
    }
    run.removeAll(keepingCapacity: true)
  }
}
