import PIOBase

/// Everything a tokenizer is, as plain values: what `encoded()` lays out as a section of the file.
///
/// The codes are those of `formats/TOKENIZER.md`.
public struct TokenizerContents: Equatable, Sendable {
  public typealias Flags = TokenizerTables.Flags
  public typealias Step = TokenizerTables.Step
  public typealias Metaspace = TokenizerTables.Metaspace
  public typealias Decoder = TokenizerTables.Decoder
  public typealias PieceFlags = TokenizerTables.PieceFlags

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
