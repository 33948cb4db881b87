import PIOBase

/// Cuts a segment of normalized text into words, as the patterns of byte-level BPEs do.
///
/// Each pattern is written out as what a backtracking regex engine would match at a position, so
/// a text of n bytes takes O(n) whatever it holds. Every scan function returns the end of the word
/// that starts at `start`, which lies before the end of `bytes`.
package struct WordScanner {
  /// Valid UTF-8.
  package let bytes: UnsafeBufferPointer<UInt8>

  package init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

  package func end(of step: TokenizerTables.Step, from start: Int) -> Int {
    switch step {
    case .none: bytes.count
    case .gpt2: gpt2(start)
    case .llama3: modern(start, digits: 3)
    case .qwen2: modern(start, digits: 1)
    case .eachDigit: digits(start, alone: true)
    case .digitRuns: digits(start, alone: false)
    case .beforeSpaceMark: beforeSpaceMark(start)
    }
  }

  /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
  private func gpt2(_ start: Int) -> Int {
    if let end = contraction(start, anyCase: false) { return end }
    let body = start + (bytes[start] == 0x20 ? 1 : 0)
    if body < bytes.count {
      let kind = classAt(body)
      if kind.contains(.letter) { return run(body) { $0.contains(.letter) } }
      if kind.contains(.number) { return run(body) { $0.contains(.number) } }
      if !kind.contains(.space) { return run(body, Self.isOther) }
    }
    return spaces(start, run(start) { $0.contains(.space) })
  }

  /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|`
  /// ` ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
  private func modern(_ start: Int, digits: Int) -> Int {
    if let end = contraction(start, anyCase: true) { return end }
    let first = Character8(bytes, at: start)
    let kind = CharacterClass(first.scalar)
    if kind.contains(.letter) { return run(start) { $0.contains(.letter) } }
    if kind.contains(.number) {
      return run(start, atMost: digits) { $0.contains(.number) }
    }
    let second = start + first.count
    if !isNewline(start) && second < bytes.count && classAt(second).contains(.letter) {
      return run(second) { $0.contains(.letter) }
    }
    let body = bytes[start] == 0x20 ? second : start
    if body < bytes.count && Self.isOther(classAt(body)) {
      var end = run(body, Self.isOther)
      while end < bytes.count && isNewline(end) { end += 1 }
      return end
    }
    let end = run(start) { $0.contains(.space) }
    if let newline = (start..<end).last(where: isNewline) { return newline + 1 }
    return spaces(start, end)
  }

  /// `\s+(?!\S)|\s+`: a run of spaces that stops before a word leaves its last one to the word.
  private func spaces(_ start: Int, _ end: Int) -> Int {
    if end == bytes.count { return end }
    let last = end - Character8(bytes, before: end).count
    return last > start ? last : end
  }

  /// `'s|'t|'re|'ve|'m|'ll|'d`; in any case also with U+017F, the long s.
  private func contraction(_ start: Int, anyCase: Bool) -> Int? {
    guard bytes[start] == 0x27, start + 1 < bytes.count else { return nil }
    let fold: UInt8 = anyCase ? 0x20 : 0
    let first = bytes[start + 1]
    switch first | fold {
    case 0x73, 0x74, 0x6D, 0x64: return start + 2  // s t m d
    default: break
    }
    guard start + 2 < bytes.count else { return nil }
    let second = bytes[start + 2]
    switch (first | fold, second | fold) {
    case (0x72, 0x65), (0x76, 0x65), (0x6C, 0x6C): return start + 3  // re ve ll
    default: return anyCase && first == 0xC5 && second == 0xBF ? start + 3 : nil
    }
  }

  private func digits(_ start: Int, alone: Bool) -> Int {
    if !classAt(start).contains(.numeric) { return run(start) { !$0.contains(.numeric) } }
    return run(start, atMost: alone ? 1 : .max) { $0.contains(.numeric) }
  }

  /// `▁` begins a word.
  private func beforeSpaceMark(_ start: Int) -> Int {
    var i = start + 1
    while i < bytes.count && !(bytes[i] == 0xE2 && isSpaceMark(i)) { i += 1 }
    return i
  }

  private func isSpaceMark(_ i: Int) -> Bool {
    i + 2 < bytes.count && bytes[i + 1] == 0x96 && bytes[i + 2] == 0x81
  }

  private func isNewline(_ i: Int) -> Bool { bytes[i] == 0x0A || bytes[i] == 0x0D }

  private static func isOther(_ kind: CharacterClass) -> Bool {
    kind.isDisjoint(with: [.letter, .number, .space])
  }

  private func classAt(_ i: Int) -> CharacterClass {
    CharacterClass(Character8(bytes, at: i).scalar)
  }

  private func run(
    _ start: Int, atMost limit: Int = .max, _ belongs: (CharacterClass) -> Bool
  ) -> Int {
    var (i, count) = (start, 0)
    while i < bytes.count && count < limit {
      let character = Character8(bytes, at: i)
      guard belongs(CharacterClass(character.scalar)) else { break }
      i += character.count
      count += 1
    }
    return i
  }
}
