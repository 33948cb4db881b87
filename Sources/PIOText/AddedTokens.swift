import PIOBase

/// Finds added tokens in a text: at each position the longest, from left to right, none twice.
struct AddedTokens {
  /// A stretch of the text: one added token, or (`id` −1) what lies between two of them.
  struct Stretch {
    let id: Int32
    let range: Range<Int>
  }

  private let tables: TokenizerTables
  private let control: ControlTokens
  /// Indices of the tokens searched: the raw ones, or the normalized ones.
  private let group: Range<Int>
  /// Whether any of them is a control token.
  let hasControl: Bool
  /// Which bytes a token of the group starts with.
  private var firstBytes: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)

  init(_ tables: TokenizerTables, _ control: ControlTokens, normalized: Bool) {
    self.tables = tables
    self.control = control
    let count = tables.added.count / 2
    group = normalized ? tables.rawAddedCount..<count : 0..<tables.rawAddedCount
    hasControl = group.contains { control.contains(tables.added[2 * $0]) }
    for token in group {
      let byte = tables.addedBytes[Int(tables.addedOffsets[token])]
      let bit = UInt64(1) << UInt64(byte & 63)
      switch byte >> 6 {
      case 0: firstBytes.0 |= bit
      case 1: firstBytes.1 |= bit
      case 2: firstBytes.2 |= bit
      default: firstBytes.3 |= bit
      }
    }
  }

  /// Calls `body` with every stretch that is not empty, in order.
  ///
  /// `text` is valid UTF-8. A token that strips takes the white space beside it with it; one that
  /// must be a single word and is not is skipped, with its bytes. A control token with a byte in `literal` is none.
  func forEachStretch(
    _ text: UnsafeBufferPointer<UInt8>, literal: LiteralRanges, _ body: (Stretch) -> Void
  ) {
    var (done, i) = (0, 0)
    var spaces = 0..<0  // the run of white space looked at last: each is walked once
    while i < text.count {
      guard starts(text[i]), let token = longest(text, at: i, literal) else {
        i += 1
        continue
      }
      var (start, end) = (i, i + count(token))
      i = end
      let flags = tables.added[2 * token + 1]
      if flags & 4 != 0 && touchesWord(text, start, end) { continue }
      if flags & 1 != 0 { start = max(done, spaceStart(text, before: start, notBefore: done)) }
      if flags & 2 != 0 {
        if !spaces.contains(end) { spaces = end..<spaceEnd(text, from: end) }
        end = spaces.isEmpty ? end : spaces.upperBound
      }
      if done < start { body(Stretch(id: -1, range: done..<start)) }
      body(Stretch(id: tables.added[2 * token], range: min(start, end)..<end))
      done = end
    }
    if done < text.count { body(Stretch(id: -1, range: done..<text.count)) }
  }

  private func starts(_ byte: UInt8) -> Bool {
    let words = firstBytes
    let word =
      switch byte >> 6 {
      case 0: words.0
      case 1: words.1
      case 2: words.2
      default: words.3
      }
    return word >> UInt64(byte & 63) & 1 != 0
  }

  private func count(_ token: Int) -> Int {
    Int(tables.addedOffsets[token + 1] - tables.addedOffsets[token])
  }

  private func byte(_ token: Int, _ depth: Int) -> UInt8 {
    tables.addedBytes[Int(tables.addedOffsets[token]) + depth]
  }

  /// Narrows the sorted tokens byte by byte; those that end come first in what remains.
  private func longest(
    _ text: UnsafeBufferPointer<UInt8>, at start: Int, _ literal: LiteralRanges
  ) -> Int? {
    var (low, high, depth) = (group.lowerBound, group.upperBound, 0)
    var found: Int?
    while true {
      if low < high && depth > 0 && count(low) == depth {
        if !isRefused(low, start..<start + depth, literal) { found = low }
        low += 1
      }
      guard low < high, start + depth < text.count else { return found }
      let wanted = text[start + depth]
      low = partition(low, high) { byte($0, depth) >= wanted }
      high = partition(low, high) { byte($0, depth) > wanted }
      depth += 1
    }
  }

  private func isRefused(_ token: Int, _ range: Range<Int>, _ literal: LiteralRanges) -> Bool {
    literal.overlaps(range) && control.contains(tables.added[2 * token])
  }

  private func partition(_ low: Int, _ high: Int, _ isUpper: (Int) -> Bool) -> Int {
    var (low, high) = (low, high)
    while low < high {
      let middle = (low + high) / 2
      if isUpper(middle) { high = middle } else { low = middle + 1 }
    }
    return low
  }

  private func touchesWord(
    _ text: UnsafeBufferPointer<UInt8>, _ start: Int, _ end: Int
  ) -> Bool {
    let before = start > 0 ? CharacterClass(Character8(text, before: start).scalar) : []
    let after = end < text.count ? CharacterClass(Character8(text, at: end).scalar) : []
    return before.contains(.word) || after.contains(.word)
  }

  private func spaceStart(
    _ text: UnsafeBufferPointer<UInt8>, before end: Int, notBefore limit: Int
  ) -> Int {
    var start = end
    while start > limit {
      let character = Character8(text, before: start)
      guard CharacterClass(character.scalar).contains(.space) else { break }
      start -= character.count
    }
    return start
  }

  private func spaceEnd(_ text: UnsafeBufferPointer<UInt8>, from start: Int) -> Int {
    var end = start
    while end < text.count {
      let character = Character8(text, at: end)
      guard CharacterClass(character.scalar).contains(.space) else { break }
      end += character.count
    }
    return end
  }
}
