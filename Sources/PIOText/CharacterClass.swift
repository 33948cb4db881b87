/// What pre-tokenizer patterns ask of a character: `\p{L}`, `\p{N}`, `\s`, and so on.
///
/// The sets are those of the reference tokenizer's Unicode version, not of Swift's: a letter added
/// to Unicode later is none to the model's tokenizer either.
struct CharacterClass: OptionSet {
  let rawValue: UInt8
  static let letter = CharacterClass(rawValue: 1)
  static let number = CharacterClass(rawValue: 2)
  static let space = CharacterClass(rawValue: 4)
  /// What a Digits pre-tokenizer isolates.
  static let numeric = CharacterClass(rawValue: 8)
  /// What may not touch an added token that is a single word.
  static let word = CharacterClass(rawValue: 16)

  init(rawValue: UInt8) { self.rawValue = rawValue }

  init(_ scalar: UInt32) {
    if scalar < 128 {
      self = asciiClasses[Int(scalar)]
    } else {
      self = CharacterClass.looked(up: scalar)
    }
  }

  /// The class of the last run that starts at or before the scalar.
  static func looked(up scalar: UInt32) -> CharacterClass {
    characterRuns.withUnsafeBufferPointer { runs in
      var (low, high) = (0, runs.count)
      while low < high {
        let middle = (low + high) / 2
        if runs[middle] >> 8 <= scalar { low = middle + 1 } else { high = middle }
      }
      return low == 0 ? [] : CharacterClass(rawValue: UInt8(truncatingIfNeeded: runs[low - 1]))
    }
  }
}

private let asciiClasses: [CharacterClass] = (0..<128).map { CharacterClass.looked(up: $0) }

/// A character of valid UTF-8: its scalar and its bytes.
struct Character8 {
  let scalar: UInt32
  let count: Int

  init(_ bytes: UnsafeBufferPointer<UInt8>, at i: Int) {
    let first = UInt32(bytes[i])
    func next(_ k: Int) -> UInt32 { UInt32(bytes[i + k] & 0x3F) }
    if first < 0x80 {
      (scalar, count) = (first, 1)
    } else if first < 0xE0 {
      (scalar, count) = ((first & 0x1F) << 6 | next(1), 2)
    } else if first < 0xF0 {
      (scalar, count) = ((first & 0x0F) << 12 | next(1) << 6 | next(2), 3)
    } else {
      (scalar, count) = ((first & 0x07) << 18 | next(1) << 12 | next(2) << 6 | next(3), 4)
    }
  }

  /// The character that ends before `i`.
  init(_ bytes: UnsafeBufferPointer<UInt8>, before i: Int) {
    var start = i - 1
    while bytes[start] & 0xC0 == 0x80 { start -= 1 }
    self.init(bytes, at: start)
  }
}
