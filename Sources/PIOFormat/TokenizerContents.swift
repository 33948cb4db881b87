/// Everything a tokenizer is, as plain values: what `encoded()` lays out as a section of the file.
///
/// The codes are those of `formats/TOKENIZER.md`; `PIOText` has the same ones.
public struct TokenizerContents: Equatable, Sendable {
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

  public struct Piece: Equatable, Sendable {
    /// The bytes it stands for in text; empty for an id that stands for nothing.
    public var text: [UInt8]
    /// What encoding looks up (characters, `▁` included); nil: never looked up.
    public var key: [UInt8]?
    public var flags: PieceFlags
    public init(text: [UInt8], key: [UInt8]?, flags: PieceFlags) {
      self.text = text
      self.key = key
      self.flags = flags
    }
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

  public struct AddedToken: Equatable, Sendable {
    public var id: Int32
    /// What is searched: in the text as given, or, if `normalized`, in the normalized text.
    public var pattern: [UInt8]
    public var normalized: Bool
    public var stripsLeft: Bool
    public var stripsRight: Bool
    public var singleWord: Bool
    public init(id: Int32, pattern: [UInt8], normalized: Bool) {
      self.id = id
      self.pattern = pattern
      self.normalized = normalized
      stripsLeft = false
      stripsRight = false
      singleWord = false
    }
  }

  /// Two neighbouring pieces and what they become; earlier merges go first.
  public struct Merge: Equatable, Sendable {
    public var left: Int32
    public var right: Int32
    public var result: Int32
    public init(left: Int32, right: Int32, result: Int32) {
      self.left = left
      self.right = right
      self.result = result
    }
  }

  public var flags: Flags = []
  /// At most four.
  public var steps: [Step] = []
  public var metaspace = Metaspace.absent
  public var decoder = Decoder.byteLevel
  /// Spaces dropped at the very start of a decoded text.
  public var strippedSpaces = 0
  /// −1: a character that is no piece is dropped.
  public var unknownID: Int32 = -1
  /// Put in front of a text, and behind it, when special tokens are asked for.
  public var beginIDs: [Int32] = []
  public var endIDs: [Int32] = []
  /// 256: the piece of each byte (byte-level), or `<0xNN>`; −1: none.
  public var byteIDs = [Int32](repeating: -1, count: 256)
  public var pieces: [Piece] = []
  public var merges: [Merge] = []
  public var added: [AddedToken] = []

  public init() {}
}

/// What is wrong with a tokenizer section, or with the contents of one to be written.
public enum TokenizerSectionError: Error, Equatable, CustomStringConvertible {
  case badMagic(found: UInt32)
  case unsupportedVersion(found: UInt32, supported: UInt32)
  case wrongSize(neededBytes: Int, foundBytes: Int)
  case unknownCode(field: String, found: Int)
  case tooMany(what: String, found: Int, limit: Int)
  case outOfRange(what: String, index: Int, found: Int, limit: Int)
  case notAscending(what: String, index: Int)
  case misaligned

  public var description: String {
    switch self {
    case .badMagic(let found): "magic number \(found) is not that of a tokenizer section"
    case .unsupportedVersion(let found, let supported):
      "version \(found), this program reads \(supported)"
    case .wrongSize(let needed, let found):
      "its tables need \(needed) bytes, the section has \(found)"
    case .unknownCode(let field, let found): "\(field) \(found) is unknown"
    case .tooMany(let what, let found, let limit):
      "\(found) \(what), at most \(limit) are allowed"
    case .outOfRange(let what, let index, let found, let limit):
      "\(what) \(index) is \(found), it must be below \(limit)"
    case .notAscending(let what, let index): "\(what) \(index) is out of order"
    case .misaligned: "the section does not start on a multiple of 4 bytes"
    }
  }
}
