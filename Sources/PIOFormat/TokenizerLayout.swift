/// The fixed header of a tokenizer section and where its arrays lie: `formats/TOKENIZER.md`.
struct TokenizerLayout {
  static let magic: UInt32 = 0x4B54_4950  // "PITK"
  static let version: UInt32 = 1
  static let headerByteCount = 128
  static let alignment = 64
  /// A lookup gives up after so many slots; a writer makes tables in which that is enough.
  static let probeLimit = 64

  enum Limit {
    static let pieces = 1 << 24
    static let merges = 1 << 24
    static let slots = 1 << 26
    static let added = 1 << 16
    static let bytes = 1 << 29
    static let pieceBytes = 4_096
    static let patternBytes = 1_024
    static let templateIDs = 16
    static let strippedSpaces = 16
  }

  /// Header words, by position.
  enum Word: Int, CaseIterable {
    case magic, version, flags, steps, metaspace, decoder, strippedSpaces, unknownID
    case pieceCount, textByteCount, keyByteCount, keySlotCount
    case mergeCount, mergeSlotCount
    case addedCount, rawAddedCount, addedByteCount
    case beginCount, endCount
  }

  var pieceCount = 0
  var textByteCount = 0
  var keyByteCount = 0
  var keySlotCount = 0
  var mergeCount = 0
  var mergeSlotCount = 0
  var addedCount = 0
  var addedByteCount = 0
  var beginCount = 0
  var endCount = 0

  /// Keys of their own; without them the texts are the keys.
  var hasKeys: Bool { keyByteCount > 0 }

  /// Byte ranges of the arrays in the order they are stored, each start on a multiple of 64.
  ///
  /// The counts are within `Limit`, so nothing here overflows.
  func ranges() -> [Range<Int>] {
    let sizes = [
      256 * 4,
      (beginCount + endCount) * 4,
      (pieceCount + 1) * 4, textByteCount, pieceCount,
      hasKeys ? (pieceCount + 1) * 4 : 0, keyByteCount, keySlotCount * 4,
      mergeCount * 12, mergeSlotCount * 4,
      addedCount * 8, (addedCount + 1) * 4, addedByteCount,
    ]
    var start = Self.headerByteCount
    return sizes.map { size in
      let range = start..<start + size
      start = Self.roundedUp(range.upperBound)
      return range
    }
  }

  static func roundedUp(_ n: Int) -> Int { (n + alignment - 1) / alignment * alignment }

  /// The slot where the search for a pair of pieces begins.
  static func slot(left: Int32, right: Int32, slotCount: Int) -> Int {
    let pair = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    return slot(hash: pair, slotCount: slotCount)
  }

  /// The slot where the search for a key begins: FNV-1a, 64 bits, over its bytes.
  static func slot(key: [UInt8], slotCount: Int) -> Int {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    return slot(hash: hash, slotCount: slotCount)
  }

  private static func slot(hash: UInt64, slotCount: Int) -> Int {
    Int(
      truncatingIfNeeded: (hash &* 0x9E37_79B9_7F4A_7C15)
        >> UInt64(64 - slotCount.trailingZeroBitCount))
  }
}
