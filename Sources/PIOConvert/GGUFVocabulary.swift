import PIOBase
import PIOFormat

/// Pieces, and merges: four times those of the largest vocabulary there is.
private let countLimit = 1 << 20

/// Bytes of a piece: finding the merges of one takes time in proportion to their square.
private let pieceLimit = 256

/// The pieces of a GGUF file and what they are for.
struct GGUFVocabulary {
  /// `tokenizer.ggml.token_type`.
  enum Kind: Int {
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  let file: GGUFFile
  let isByteLevel: Bool
  private(set) var pieces: [[UInt8]]
  private(set) var kinds: [Kind]
  private(set) var unknown: Int32?
  /// Of each piece; empty: all alike.
  let scores: [Double]
  let addsSpace: Bool
  let addsBegin: Bool
  let addsEnd: Bool
  let preTokenizer: GGUFPreTokenizer
  let begin: Int32?
  /// Any of these ends an answer.
  let ends: [Int32]

  init(_ file: GGUFFile, vocabSize: Int) throws(ConvertError) {
    self.file = file
    isByteLevel = try file.isByteLevel()
    preTokenizer = isByteLevel ? try GGUFPreTokenizer(file) : .none
    pieces = try file.pieces(atMost: min(vocabSize, countLimit))
    kinds = try file.kinds(count: pieces.count)
    scores = try file.scores(count: pieces.count)
    addsSpace = try file.bool(prefix + "add_space_prefix", default: !isByteLevel)
    begin = try file.pieceID("bos_token_id", count: pieces.count)
    unknown = try file.pieceID("unknown_token_id", count: pieces.count)
    ends = try file.ends(pieces, kinds)
    addsBegin = try file.bool(
      prefix + "add_bos_token", default: !isByteLevel || preTokenizer.addsBegin)
    addsEnd = try file.bool(prefix + "add_eos_token", default: false)
    try checkRoles()
    for id in [begin, unknown].compactMap({ $0 }) + ends where kinds[Int(id)] == .normal {
      kinds[Int(id)] = .control
    }
  }

  private func checkRoles() throws(ConvertError) {
    guard !addsBegin || begin != nil else {
      throw file.failure(prefix + "bos_token_id", "is missing")
    }
    guard !addsEnd || !ends.isEmpty else {
      throw file.failure(prefix + "eos_token_id", "is missing")
    }
    guard try !file.bool(prefix + "remove_extra_whitespaces", default: false) else {
      throw file.failure(prefix + "remove_extra_whitespaces", "is not supported")
    }
  }

  /// The two pieces of every merge; nil where the file has no list of them.
  func mergeTexts() -> [ArraySlice<UInt8>]? {
    (try? file.strings(prefix + "merges", atMost: countLimit)) ?? nil
  }

  /// The id of `<image>`: that of the piece, or of what a family calls it, where there is one. Vocabularies of language models
  /// have none; then it is an id that no text becomes: the unknown piece, where every byte has a
  /// piece of its own, or one that was reserved.
  mutating func claimImageToken() throws(ConvertError) -> Int32 {
    let name = Array(imagePlaceholder.utf8)
    for known in [name, Array("<|image_pad|>".utf8)] {
      guard let id = pieces.firstIndex(of: known) else { continue }
      kinds[id] = .control
      return Int32(id)
    }
    let reserved = Array("<|reserved_special_token_".utf8)
    let hasAllBytes = Set(pieces.compactMap(fallbackByte)).count == 256
    let free =
      isByteLevel
      ? kinds.indices.first { kinds[$0] == .control && pieces[$0].starts(with: reserved) }
      : unknown.flatMap { hasAllBytes ? Int($0) : nil }
    guard let free else {
      throw file.failure(
        prefix + "tokens", "has neither <image> nor an id that could stand for it")
    }
    if unknown == Int32(free) { unknown = nil }
    pieces[free] = name
    kinds[free] = .control
    return Int32(free)
  }
}

private let prefix = "tokenizer.ggml."

extension GGUFFile {
  fileprivate func isByteLevel() throws(ConvertError) -> Bool {
    let key = prefix + "model"
    switch try text(key) {
    case "llama": return false
    case "gpt2": return true
    case let model?:
      throw failure(key, "'\(model.shortened)' is not supported (llama, gpt2 are)")
    case nil: throw failure(key, "is missing")
    }
  }

  fileprivate func pieces(atMost limit: Int) throws(ConvertError) -> [[UInt8]] {
    let key = prefix + "tokens"
    guard let tokens = try strings(key, atMost: limit), !tokens.isEmpty else {
      throw failure(key, "is missing")
    }
    guard tokens.allSatisfy({ $0.count <= pieceLimit }) else {
      throw failure(key, "has a piece of more than \(pieceLimit) bytes")
    }
    return tokens.map(Array.init)
  }

  fileprivate func kinds(count: Int) throws(ConvertError) -> [GGUFVocabulary.Kind] {
    let key = prefix + "token_type"
    guard let types = try numbers(key, atMost: count) else {
      return [GGUFVocabulary.Kind](repeating: .normal, count: count)
    }
    guard types.count == count else {
      throw failure(key, "has \(types.count) elements, needed one for each of \(count) tokens")
    }
    return types.map { Int(exactly: $0).flatMap(GGUFVocabulary.Kind.init) ?? .normal }
  }

  fileprivate func scores(count: Int) throws(ConvertError) -> [Double] {
    let key = prefix + "scores"
    let scores = try numbers(key, atMost: count) ?? []
    guard scores.isEmpty || (scores.count == count && scores.allSatisfy(\.isFinite)) else {
      throw failure(key, "is not a list of \(count) finite numbers, one for each token")
    }
    return scores
  }

  fileprivate func pieceID(_ name: String, count: Int) throws(ConvertError) -> Int32? {
    try int(prefix + name, in: 0...count - 1).map { Int32($0) }
  }

  /// As many as the tokenizer section holds, with room for that of the prompt template.
  fileprivate func ends(
    _ pieces: [[UInt8]], _ kinds: [GGUFVocabulary.Kind]
  ) throws(ConvertError) -> [Int32] {
    var ends: [Int32] = []
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
      if let end = try pieceID(name, count: pieces.count) { ends.append(end) }
    }
    for (id, kind) in kinds.enumerated() where kind == .control && endTexts.contains(pieces[id]) {
      ends.append(Int32(id))
    }
    return Array(ends.prefix(63))
  }
}

/// Control tokens that end an answer whatever the metadata says, by llama.cpp's list.
private let endTexts: Set<[UInt8]> = Set(
  [
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "<EOT>", "<end_of_utterance>",
  ].map { Array($0.utf8) })
