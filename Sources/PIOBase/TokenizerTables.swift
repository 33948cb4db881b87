/// A tokenizer as plain buffers, in the shape in which a `.piom` file stores it.
///
/// `init(_:vocabSize:)` of the format checks them: ids name pieces, offsets start at 0, ascend and stay inside
/// their bytes, slot counts are 0 or powers of two from 64. The buffers outlive the tokenizer.
public struct TokenizerTables: @unchecked Sendable {
  public struct Flags: OptionSet, Equatable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    /// Pieces are strings of bytes (GPT-2's alphabet, undone); otherwise strings of characters.
    public static let byteLevel = Flags(rawValue: 1)
    /// A word that is a piece is that piece, whatever the merges say.
    public static let ignoreMerges = Flags(rawValue: 2)
    /// A character that is no piece becomes the pieces `<0xNN>` of its bytes.
    public static let byteFallback = Flags(rawValue: 4)
    /// Neighbouring unknown characters are one unknown piece.
    public static let fuseUnknown = Flags(rawValue: 8)
    /// Normalizer: Unicode NFC.
    public static let composes = Flags(rawValue: 16)
    /// Normalizer: `▁` in front of every segment.
    public static let prepends = Flags(rawValue: 32)
    /// Normalizer: a space becomes `▁`.
    public static let replacesSpaces = Flags(rawValue: 64)
    /// Pre-tokenizer ByteLevel: a space in front of a segment that has none.
    public static let prefixSpace = Flags(rawValue: 128)
    public static let all = Flags(rawValue: 255)
  }

  /// One way of cutting a segment into words; they run one after the other.
  public enum Step: UInt8, Sendable, CaseIterable {
    case none = 0
    /// The pattern of GPT-2.
    case gpt2 = 1
    /// The pattern of Llama 3: numbers in groups of three.
    case llama3 = 2
    /// The pattern of Qwen 2: numbers digit by digit.
    case qwen2 = 3
    /// Every numeric character alone.
    case eachDigit = 4
    /// Runs of numeric characters alone.
    case digitRuns = 5
    /// Before every `▁`.
    case beforeSpaceMark = 6
  }

  /// The Metaspace pre-tokenizer: spaces become `▁`, and one is put in front of …
  public enum Metaspace: UInt8, Sendable, CaseIterable {
    /// There is no such pre-tokenizer.
    case absent = 0
    /// … nothing.
    case never = 1
    /// … the text's first segment.
    case first = 2
    /// … every segment.
    case always = 3
  }

  public enum Decoder: UInt8, Sendable, CaseIterable {
    /// Bytes, joined; what is no UTF-8 becomes U+FFFD.
    case byteLevel = 0
    /// Characters, joined; runs of byte pieces that are no UTF-8 become U+FFFD, one a byte.
    case byteFallback = 1
    /// Characters, joined; the first piece loses its `▁` where the text was given one.
    case metaspace = 2
  }

  public struct PieceFlags: OptionSet, Equatable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// The id has a piece.
    public static let known = PieceFlags(rawValue: 1)
    /// Not part of an answer's text.
    public static let special = PieceFlags(rawValue: 2)
    /// `<0xNN>`: its text is one byte of a character.
    public static let byte = PieceFlags(rawValue: 4)
    /// Its spaces are `▁`: a Metaspace decoder drops them from the first piece.
    public static let marksSpaces = PieceFlags(rawValue: 8)
    public static let all = PieceFlags(rawValue: 15)
  }

  public var flags: Flags = []
  public var steps: (Step, Step, Step, Step) = (.none, .none, .none, .none)
  public var metaspace = Metaspace.absent
  public var decoder = Decoder.byteLevel
  public var strippedSpaces = 0
  /// −1: none.
  public var unknownID: Int32 = -1
  /// Bytes of the longest piece.
  public var longestPiece = 0
  /// 256 ids, −1: no piece for this byte.
  public var byteIDs = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var beginIDs = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var endIDs = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  /// One more than there are pieces.
  public var textOffsets = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
  public var texts = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  public var pieceFlags = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  public var keyOffsets = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
  public var keys = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  /// Open addressing, a power of two or none: piece ids, −1: free.
  public var keySlots = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  /// Left, right, result by rank.
  public var merges = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  /// Open addressing, a power of two or none: ranks, −1: free.
  public var mergeSlots = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  /// Id and flags (1 strips left, 2 strips right, 4 single word).
  public var added = UnsafeBufferPointer<Int32>(start: nil, count: 0)
  public var addedOffsets = UnsafeBufferPointer<UInt32>(start: nil, count: 0)
  public var addedBytes = UnsafeBufferPointer<UInt8>(start: nil, count: 0)
  /// The first so many are searched in the text as given, the others in the normalized text.
  public var rawAddedCount = 0

  public init() {}
}
