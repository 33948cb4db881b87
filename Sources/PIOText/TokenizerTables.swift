/// A tokenizer as plain buffers, in the shape in which a `.piom` file stores it.
///
/// Whoever fills this has checked it: ids name pieces, offsets start at 0, ascend and stay inside
/// their bytes, slot counts are 0 or powers of two from 64. The buffers outlive the tokenizer.
public struct TokenizerTables: @unchecked Sendable {
  public struct Flags: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let byteLevel = Flags(rawValue: 1)
    public static let ignoreMerges = Flags(rawValue: 2)
    public static let byteFallback = Flags(rawValue: 4)
    public static let fuseUnknown = Flags(rawValue: 8)
    public static let composes = Flags(rawValue: 16)
    public static let prepends = Flags(rawValue: 32)
    public static let replacesSpaces = Flags(rawValue: 64)
    public static let prefixSpace = Flags(rawValue: 128)
  }

  /// One way of cutting a segment into words.
  public enum Step: UInt8, Sendable {
    case none = 0
    case gpt2 = 1
    case llama3 = 2
    case qwen2 = 3
    case eachDigit = 4
    case digitRuns = 5
    case beforeSpaceMark = 6
  }

  /// Where the Metaspace pre-tokenizer puts a `▁`.
  public enum Metaspace: UInt8, Sendable {
    case absent = 0
    case never = 1
    case first = 2
    case always = 3
  }

  public enum Decoder: UInt8, Sendable {
    case byteLevel = 0
    case byteFallback = 1
    case metaspace = 2
  }

  public struct PieceFlags: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let known = PieceFlags(rawValue: 1)
    public static let special = PieceFlags(rawValue: 2)
    public static let byte = PieceFlags(rawValue: 4)
    public static let marksSpaces = PieceFlags(rawValue: 8)
  }

  public var flags: Flags = []
  public var steps: (Step, Step, Step, Step) = (.none, .none, .none, .none)
  public var metaspace = Metaspace.absent
  public var decoder = Decoder.byteLevel
  public var strippedSpaces = 0
  public var unknownID: Int32 = -1
  /// Bytes of the longest piece.
  public var longestPiece = 0
  public var byteIDs = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var beginIDs = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var endIDs = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var textOffsets = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
  public var texts = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  public var pieceFlags = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  public var keyOffsets = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
  public var keys = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  public var keySlots = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  /// Left, right, result by rank.
  public var merges = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var mergeSlots = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  /// Id and flags (1 strips left, 2 strips right, 4 single word).
  public var added = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var addedOffsets = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
  public var addedBytes = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  public var rawAddedCount = 0

  public init() {}
}

/// A lookup gives up after so many slots (`formats/TOKENIZER.md`), so no table can make it long.
private let probeLimit = 64

extension TokenizerTables {
  /// The rank of the merge of two neighbours, or −1.
  func rank(left: Int32, right: Int32) -> Int32 {
    if mergeSlots.isEmpty { return -1 }
    let pair = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    var slot = home(pair, mergeSlots.count)
    for _ in 0..<probeLimit {
      let rank = mergeSlots[slot]
      if rank < 0 { return -1 }
      if merges[3 * Int(rank)] == left && merges[3 * Int(rank) + 1] == right { return rank }
      slot = (slot + 1) & (mergeSlots.count - 1)
    }
    return -1
  }

  /// The piece with exactly these bytes as its key, or −1.
  func piece(_ key: UnsafeBufferPointer<UInt8>) -> Int32 {
    if keySlots.isEmpty || key.isEmpty { return -1 }
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    var slot = home(hash, keySlots.count)
    for _ in 0..<probeLimit {
      let id = keySlots[slot]
      if id < 0 { return -1 }
      let start = Int(keyOffsets[Int(id)])
      let count = Int(keyOffsets[Int(id) + 1]) - start
      if count == key.count && (0..<count).allSatisfy({ keys[start + $0] == key[$0] }) { return id }
      slot = (slot + 1) & (keySlots.count - 1)
    }
    return -1
  }

  private func home(_ hash: UInt64, _ slotCount: Int) -> Int {
    let shift = UInt64(64 - slotCount.trailingZeroBitCount)
    return Int(truncatingIfNeeded: (hash &* 0x9E37_79B9_7F4A_7C15) >> shift)
  }
}
