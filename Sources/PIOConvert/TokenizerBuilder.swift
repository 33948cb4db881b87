import PIOFormat
import PIOText

/// Fills `TokenizerContents` from a `tokenizer.json` with a BPE model.
struct TokenizerBuilder {
  private var contents = TokenizerContents()
  private let pipeline: TokenizerPipeline
  private let vocabSize: Int
  private var ids: [[UInt8]: Int32] = [:]
  /// Those of added tokens that are special, for the tokens that end a turn.
  private var specialTokens: [(content: [UInt8], id: Int32)] = []

  /// Reads everything but the added tokens.
  init(_ json: PieceJSON, vocabSize: Int) throws(TokenizerConvertError) {
    pipeline = try TokenizerPipeline(json)
    self.vocabSize = vocabSize
    contents.flags = pipeline.flags
    contents.steps = pipeline.steps
    contents.metaspace = pipeline.metaspace
    contents.decoder = pipeline.decoder
    contents.strippedSpaces = pipeline.strippedSpaces
    contents.beginIDs = pipeline.beginIDs
    contents.endIDs = pipeline.endIDs
    guard let model = json.member("model") else { throw Self.invalid("has no model") }
    try readOptions(model)
    try readVocabulary(model)
    readByteIDs()
    try readMerges(model)
  }

  func id(of content: [UInt8]) -> Int32? { ids[content] }

  /// The special token with which a text goes on after white space, if one does.
  func specialID(startingOneIn text: String) -> Int32? {
    let bytes = Array(text.utf8.drop { $0 == 0x20 || $0 == 0x0A })
    return specialTokens.first { !$0.content.isEmpty && bytes.starts(with: $0.content) }?.id
  }

  func finished() throws(TokenizerConvertError) -> TokenizerContents {
    for id in contents.beginIDs + contents.endIDs where Int(id) >= contents.pieces.count || id < 0 {
      throw Self.invalid("the post-processor uses id \(id), which is not a token")
    }
    return contents
  }

  private static func invalid(_ problem: String) -> TokenizerConvertError {
    .invalid(file: TokenizerFolder.main, problem: problem)
  }

  private static func unsupported(_ what: String) -> TokenizerConvertError {
    .unsupported(file: TokenizerFolder.main, what: what)
  }

  private static func printable(_ bytes: [UInt8]) -> String {
    String(decoding: bytes.prefix(40), as: UTF8.self)
  }

  // MARK: Model

  private mutating func readOptions(_ model: PieceJSON) throws(TokenizerConvertError) {
    if let type = model.member("type")?.string, type != "BPE" {
      throw Self.unsupported("model '\(type)'")
    }
    for affix in ["continuing_subword_prefix", "end_of_word_suffix"] {
      if let bytes = model.member(affix)?.bytes, !bytes.isEmpty {
        throw Self.unsupported("model 'BPE' with \(affix)")
      }
    }
    if case .number(let dropout)? = model.member("dropout"), dropout != 0 {
      throw Self.unsupported("model 'BPE' with dropout")
    }
    if model["ignore_merges"]?.bool == true { contents.flags.insert(.ignoreMerges) }
    if model["fuse_unk"]?.bool == true { contents.flags.insert(.fuseUnknown) }
    if model["byte_fallback"]?.bool == true {
      if contents.flags.contains(.byteLevel) {
        throw Self.unsupported("byte_fallback beside a ByteLevel pre-tokenizer")
      }
      contents.flags.insert(.byteFallback)
    }
  }

  private mutating func readVocabulary(_ model: PieceJSON) throws(TokenizerConvertError) {
    guard let vocabulary = model["vocab"]?.members, !vocabulary.isEmpty else {
      throw Self.invalid("the model has no vocabulary")
    }
    for (content, value) in vocabulary {
      guard let id = value.id else {
        throw Self.invalid("the id of '\(Self.printable(content))' is not an integer")
      }
      try claim(content, id)
      contents.pieces[Int(id)] = try piece(content, isInModel: true)
    }
    if let unknown = model.member("unk_token")?.bytes {
      guard let id = ids[unknown] else {
        throw Self.invalid("unk_token '\(Self.printable(unknown))' is not in the vocabulary")
      }
      contents.unknownID = id
    }
  }

  /// Makes room for a token, or throws where the id is taken or too large.
  private mutating func claim(_ content: [UInt8], _ id: Int32) throws(TokenizerConvertError) {
    guard id >= 0, Int(id) < vocabSize else {
      throw .idOutOfRange(token: Self.printable(content), id: Int(id), vocabSize: vocabSize)
    }
    if let other = ids[content], other != id {
      throw Self.invalid("'\(Self.printable(content))' has two ids, \(other) and \(id)")
    }
    let missing = Int(id) + 1 - contents.pieces.count
    if missing > 0 {
      let empty = TokenizerContents.Piece(text: [], key: nil, flags: [])
      contents.pieces += [TokenizerContents.Piece](repeating: empty, count: missing)
    }
    if contents.pieces[Int(id)].flags.contains(.known) && ids[content] == nil {
      throw Self.invalid("id \(id) has two tokens, one of them '\(Self.printable(content))'")
    }
    ids[content] = id
  }

  private func piece(
    _ content: [UInt8], isInModel: Bool
  ) throws(TokenizerConvertError) -> TokenizerContents.Piece {
    var piece = TokenizerContents.Piece(
      text: content, key: isInModel ? content : nil, flags: .known)
    if contents.decoder == .byteLevel {
      let bytes = byteLevelBytes(content)
      piece.text = bytes ?? content
      piece.key = isInModel ? bytes : nil
      return piece
    }
    if pipeline.decodesSpaceMarks {
      piece.text = withSpaces(content)
      if piece.text != content && contents.decoder == .metaspace {
        guard !content.contains(0x20) else {
          throw Self.unsupported("a piece with both ▁ and a space")
        }
        piece.flags.insert(.marksSpaces)
      }
    }
    if pipeline.decodesBytes, let byte = fallbackByte(piece.text) {
      piece.text = [byte]
      piece.flags.insert(.byte)
    }
    return piece
  }

  /// The pieces that single bytes become, in either family.
  private mutating func readByteIDs() {
    let isByteLevel = contents.flags.contains(.byteLevel)
    guard isByteLevel || contents.flags.contains(.byteFallback) else { return }
    for byte in UInt8.min...UInt8.max {
      let name: [UInt8]
      if isByteLevel {
        name = Array(String(Character(byteLevelScalar(byte))).utf8)
      } else {
        let hex = String(byte, radix: 16, uppercase: true)
        name = Array("<0x\(hex.count == 1 ? "0" : "")\(hex)>".utf8)
      }
      contents.byteIDs[Int(byte)] = ids[name] ?? -1
    }
  }

  private mutating func readMerges(_ model: PieceJSON) throws(TokenizerConvertError) {
    guard let merges = model["merges"]?.array else { throw Self.invalid("the model has no merges") }
    contents.merges.reserveCapacity(merges.count)
    for (rank, merge) in merges.enumerated() {
      guard let (left, right) = halves(merge) else {
        throw Self.invalid("merge \(rank) is not a pair")
      }
      guard let leftID = ids[left], let rightID = ids[right], let result = ids[left + right] else {
        throw Self.invalid("merge \(rank) uses pieces that are not in the vocabulary")
      }
      contents.merges.append(.init(left: leftID, right: rightID, result: result))
    }
  }

  /// `"a b"`, or `["a", "b"]`, in which a half may hold a space.
  private func halves(_ merge: PieceJSON) -> ([UInt8], [UInt8])? {
    if let bytes = merge.bytes {
      let parts = bytes.split(separator: 0x20, omittingEmptySubsequences: false)
      return parts.count == 2 ? (Array(parts[0]), Array(parts[1])) : nil
    }
    guard let pair = merge.array, pair.count == 2, let left = pair[0].bytes,
      let right = pair[1].bytes
    else { return nil }
    return (left, right)
  }

  // MARK: Added tokens

  /// Those of `tokenizer.json`, then what `tokenizer_config.json` says about them or adds, then
  /// the tokens with a role (`bos_token`) that are pieces but not added tokens yet.
  mutating func readAddedTokens(
    _ json: PieceJSON, config: PieceJSON?, named: [NamedToken]
  ) throws(TokenizerConvertError) {
    for entry in json["added_tokens"]?.array ?? [] {
      guard let id = entry["id"]?.id else { throw Self.invalid("an added token has no id") }
      try add(entry, id)
    }
    for (key, entry) in config?["added_tokens_decoder"]?.members ?? [] {
      guard let id = Int32(String(decoding: key, as: UTF8.self)) else { continue }
      try add(entry, id)
    }
    for token in named {
      guard let id = ids[token.content],
        !specialTokens.contains(where: { $0.content == token.content })
      else { continue }
      try add(content: token.content, id: id, special: true, token: nil)
    }
  }

  /// A checkpoint whose tokenizer does not know its image token gets it here, as a special token.
  mutating func ensureImageToken(_ id: Int32) throws(TokenizerConvertError) {
    if contents.added.contains(where: { $0.id == id }) { return }
    let isPiece = id >= 0 && Int(id) < contents.pieces.count
    let content: [UInt8]
    if isPiece, contents.pieces[Int(id)].flags.contains(.known) {
      content = contents.pieces[Int(id)].text
    } else {
      content = Array(imagePlaceholder.utf8)
    }
    try add(content: content, id: id, special: true, token: nil)
  }

  private mutating func add(_ entry: PieceJSON, _ id: Int32) throws(TokenizerConvertError) {
    guard let content = entry["content"]?.bytes else {
      throw Self.invalid("added token \(id) has no content")
    }
    if content.isEmpty { return }
    try add(content: content, id: id, special: entry["special"]?.bool ?? false, token: entry)
  }

  private mutating func add(
    content: [UInt8], id: Int32, special: Bool, token: PieceJSON?
  ) throws(TokenizerConvertError) {
    try claim(content, id)
    let normalized = token?["normalized"]?.bool ?? !special
    let pattern = normalized ? self.normalized(content) : content
    // The reference decodes an added token as what it searches for.
    var piece = try piece(pattern, isInModel: false)
    piece.key = contents.pieces[Int(id)].key
    contents.pieces[Int(id)] = piece
    var added = TokenizerContents.AddedToken(id: id, pattern: pattern, normalized: normalized)
    added.stripsLeft = token?["lstrip"]?.bool ?? false
    added.stripsRight = token?["rstrip"]?.bool ?? false
    added.singleWord = token?["single_word"]?.bool ?? false
    contents.added.removeAll { $0.id == id }
    specialTokens.removeAll { $0.id == id }
    // Of two tokens that normalize to the same text the first is found.
    if !contents.added.contains(where: {
      $0.normalized == normalized && $0.pattern == added.pattern
    }) {
      contents.added.append(added)
    }
    if special {
      // It recognises special tokens by their text, so not one that a normalizer changed.
      if pattern == content { contents.pieces[Int(id)].flags.insert(.special) }
      specialTokens.append((content, id))
    }
  }

  private func normalized(_ content: [UInt8]) -> [UInt8] {
    let normalizer = Normalizer(.init(rawValue: contents.flags.rawValue))
    return content.withUnsafeBufferPointer { normalizer.normalized($0) }
  }
}
