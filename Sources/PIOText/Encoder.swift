import PIOBase

/// One text on its way to ids: added tokens, normalizer, pre-tokenizer, merges.
struct Encoder {
  private let tokenizer: Tokenizer
  private let steps: [TokenizerTables.Step]
  private let literal: LiteralRanges
  private var merger: WordMerger
  private var out: [Int32] = []

  init(_ tokenizer: Tokenizer, _ literal: LiteralRanges) {
    self.tokenizer = tokenizer
    self.literal = literal
    let steps = tokenizer.tables.steps
    self.steps = [steps.0, steps.1, steps.2, steps.3].filter { $0 != .none }
    // What a template has of control tokens was found as added tokens before any word is merged.
    merger = WordMerger(tokenizer.tables, refused: literal.ranges.isEmpty ? nil : tokenizer.control)
  }

  /// `text` is valid UTF-8.
  mutating func encode(
    _ text: UnsafeBufferPointer<UInt8>, addSpecialTokens: Bool, continues: Bool
  ) -> [Int32] {
    if addSpecialTokens { out += tokenizer.tables.beginIDs }
    tokenizer.rawAdded.forEachStretch(text, literal: literal) { stretch in
      if stretch.id >= 0 {
        out.append(stretch.id)
      } else {
        let segment = UnsafeBufferPointer(rebasing: text[stretch.range])
        let start: Start = stretch.range.lowerBound > 0 ? .inside : continues ? .continued : .first
        encodeSegment(segment, start, literal.within(stretch.range))
      }
    }
    if addSpecialTokens { out += tokenizer.tables.endIDs }
    return out
  }

  /// Where a stretch of text starts: it decides what is put in front.
  private enum Start {
    /// At the start of the whole text.
    case first
    /// At the start of a text that goes on from another one.
    case continued
    /// Behind an added token.
    case inside
  }

  /// What lies between two raw added tokens: normalized, then cut at the normalized ones.
  private mutating func encodeSegment(
    _ segment: UnsafeBufferPointer<UInt8>, _ start: Start, _ literal: LiteralRanges
  ) {
    let normalizer = tokenizer.normalizer
    if normalizer.isIdentity { return encodeNormalized(segment, start, literal) }
    let continues = start == .continued
    let normalized = normalizer.normalized(segment, continues: continues)
    let moved =
      tokenizer.normalizedAdded.hasControl
      ? literal.normalized(by: normalizer, segment, to: normalized, continues: continues)
      : LiteralRanges()
    normalized.withUnsafeBufferPointer { encodeNormalized($0, start, moved) }
  }

  private mutating func encodeNormalized(
    _ text: UnsafeBufferPointer<UInt8>, _ start: Start, _ literal: LiteralRanges
  ) {
    tokenizer.normalizedAdded.forEachStretch(text, literal: literal) { stretch in
      if stretch.id >= 0 {
        out.append(stretch.id)
      } else {
        let words = UnsafeBufferPointer(rebasing: text[stretch.range])
        encodeWords(words, stretch.range.lowerBound == 0 ? start : .inside)
      }
    }
  }

  /// The pre-tokenizer: what it puts in front and replaces, then its steps.
  private mutating func encodeWords(_ segment: UnsafeBufferPointer<UInt8>, _ start: Start) {
    let tables = tokenizer.tables
    var changed: [UInt8] = []
    if tables.flags.contains(.prefixSpace) && segment.first != 0x20 && start != .continued {
      changed.append(0x20)
      changed += segment
    } else if tables.metaspace != .absent {
      let isMarked = segment.first == 0x20 || segment.starts(with: spaceMark)
      let wantsMark =
        (tables.metaspace == .always && start != .continued)
        || (tables.metaspace == .first && start == .first)
      if wantsMark && !isMarked { changed += spaceMark }
      appendMarkingSpaces(segment, to: &changed)
    } else {
      return cut(segment, step: 0)
    }
    changed.withUnsafeBufferPointer { cut($0, step: 0) }
  }

  /// Cuts by one step and hands the words to the next; the last one's words are merged.
  private mutating func cut(_ segment: UnsafeBufferPointer<UInt8>, step: Int) {
    guard step < steps.count else { return merger.append(segment, to: &out) }
    let scanner = WordScanner(bytes: segment)
    var start = 0
    while start < segment.count {
      let end = scanner.end(of: steps[step], from: start)
      cut(UnsafeBufferPointer(rebasing: segment[start..<end]), step: step + 1)
      start = end
    }
  }
}
