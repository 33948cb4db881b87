import PIOBase
import PIOFormat

extension GGUFFile {
  /// The tokenizer and the prompt template of the metadata.
  ///
  /// Brought into the form of a `tokenizer.json` and read as one, so that there is one way from
  /// pieces to tables. `hasImages`: some id must become `<image>`.
  func tokenizer(
    chatTemplate: String?, vocabSize: Int, hasImages: Bool
  ) throws(ConvertError) -> ConvertedTokenizer {
    var vocabulary = try GGUFVocabulary(self, vocabSize: vocabSize)
    let image = hasImages ? try vocabulary.claimImageToken() : nil
    do throws(TokenizerConvertError) {
      let json = try vocabulary.tokenizerJSON()
      var builder = try TokenizerBuilder(json, vocabSize: vocabSize)
      try builder.readAddedTokens(json, config: nil, named: [])
      let prompt = try prompt(name: chatTemplate, hasImages: hasImages)
      var special = SpecialTokens()
      special.begin = vocabulary.begin ?? -1
      special.end = vocabulary.ends
      if let id = builder.specialID(startingOneIn: prompt.assistantSuffix) {
        special.end.append(id)
      }
      special.end = special.end.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
      return try ConvertedTokenizer(
        try builder.finished(), special: special, prompt: prompt, imageTokenID: image)
    } catch {
      throw .tokenizer(error.inFile(name))
    }
  }

  private func prompt(
    name: String?, hasImages: Bool
  ) throws(TokenizerConvertError) -> PromptTemplate {
    if let name {
      guard let template = namedChatTemplate(name) else { throw .noSuchChatTemplate(name: name) }
      return template
    }
    let key = "tokenizer.chat_template"
    guard let jinja = try? text(key) else {
      guard !has(key) else { throw .invalid(file: self.name, problem: "\(key) is no text") }
      // A decoder alone without a template is a base model, which takes the text as it is.
      if hasImages { throw .noChatTemplate }
      return PromptTemplate()
    }
    guard let template = recognisedChatTemplate(jinja) else {
      throw .unknownChatTemplate(file: self.name)
    }
    return template
  }
}

extension TokenizerConvertError {
  /// The same with the name of the file that the vocabulary really comes from.
  fileprivate func inFile(_ name: String) -> TokenizerConvertError {
    switch self {
    case .invalid(_, let problem): .invalid(file: name, problem: problem)
    case .unsupported(_, let what): .unsupported(file: name, what: what)
    default: self
    }
  }
}

/// Pieces, and merges: four times those of the largest vocabulary there is.
private let countLimit = 1 << 20

/// Bytes of a piece: finding the merges of one takes time in proportion to their square.
private let pieceLimit = 256

/// The pieces of a GGUF file and what they are for.
private struct GGUFVocabulary {
  /// `tokenizer.ggml.token_type`.
  private enum Kind: Int {
    case normal = 1
    case unknown = 2
    case control = 3
    case userDefined = 4
    case unused = 5
    case byte = 6
  }

  private let file: GGUFFile
  private let isByteLevel: Bool
  private var pieces: [[UInt8]]
  private var kinds: [Kind]
  private var unknown: Int32?
  /// Of each piece; empty: all alike.
  private let scores: [Double]
  private let addsSpace: Bool
  private let addsBegin: Bool
  private let addsEnd: Bool
  private let preTokenizer: PreTokenizer
  let begin: Int32?
  /// Any of these ends an answer.
  let ends: [Int32]

  private static let prefix = "tokenizer.ggml."

  init(_ file: GGUFFile, vocabSize: Int) throws(ConvertError) {
    self.file = file
    let key = Self.prefix + "model"
    switch try file.text(key) {
    case "llama": isByteLevel = false
    case "gpt2": isByteLevel = true
    case let model?:
      throw file.failure(key, "'\(model.shortened)' is not supported (llama, gpt2 are)")
    case nil: throw file.failure(key, "is missing")
    }
    preTokenizer = isByteLevel ? try PreTokenizer(file) : .none
    guard
      let tokens = try file.strings(Self.prefix + "tokens", atMost: min(vocabSize, countLimit)),
      !tokens.isEmpty
    else { throw file.failure(Self.prefix + "tokens", "is missing") }
    guard tokens.allSatisfy({ $0.count <= pieceLimit }) else {
      throw file.failure(Self.prefix + "tokens", "has a piece of more than \(pieceLimit) bytes")
    }
    pieces = tokens.map(Array.init)
    kinds = [Kind](repeating: .normal, count: pieces.count)
    if let types = try file.numbers(
      Self.prefix + "token_type", atMost: tokens.count)
    {
      guard types.count == kinds.count else {
        throw file.failure(Self.prefix + "token_type", "is not as long as the list of tokens")
      }
      kinds = types.map { Int(exactly: $0).flatMap(Kind.init) ?? .normal }
    }
    scores = try file.numbers(Self.prefix + "scores", atMost: tokens.count) ?? []
    guard scores.isEmpty || (scores.count == tokens.count && scores.allSatisfy(\.isFinite)) else {
      throw file.failure(Self.prefix + "scores", "are not one finite number for each of the tokens")
    }
    addsSpace = try file.bool(Self.prefix + "add_space_prefix", default: !isByteLevel)
    func id(_ name: String) throws(ConvertError) -> Int32? {
      try file.int(Self.prefix + name, in: 0...tokens.count - 1).map { Int32($0) }
    }
    begin = try id("bos_token_id")
    unknown = try id("unknown_token_id")
    var ends: [Int32] = []
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
      if let end = try id(name) { ends.append(end) }
    }
    for (id, kind) in kinds.enumerated() where kind == .control && endTexts.contains(pieces[id]) {
      ends.append(Int32(id))
    }
    self.ends = Array(ends.prefix(63))
    for id in [begin, unknown].compactMap({ $0 }) + ends where kinds[Int(id)] == .normal {
      kinds[Int(id)] = .control
    }
    addsBegin = try file.bool(
      Self.prefix + "add_bos_token", default: !isByteLevel || preTokenizer.addsBegin)
    addsEnd = try file.bool(Self.prefix + "add_eos_token", default: false)
    guard !addsBegin || begin != nil else {
      throw file.failure(Self.prefix + "bos_token_id", "is missing")
    }
    guard !addsEnd || !self.ends.isEmpty else {
      throw file.failure(Self.prefix + "eos_token_id", "is missing")
    }
    guard try !file.bool(Self.prefix + "remove_extra_whitespaces", default: false) else {
      throw file.failure(Self.prefix + "remove_extra_whitespaces", "is not supported")
    }
  }

  /// The id of `<image>`: that of the piece, where there is one. Vocabularies of language models
  /// have none; then it is an id that no text becomes: the unknown piece, where every byte has a
  /// piece of its own, or one that was reserved.
  mutating func claimImageToken() throws(ConvertError) -> Int32 {
    let name = Array("<image>".utf8)
    if let id = pieces.firstIndex(of: name) {
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
        Self.prefix + "tokens", "has neither <image> nor an id that could stand for it")
    }
    if unknown == Int32(free) { unknown = nil }
    pieces[free] = name
    kinds[free] = .control
    return Int32(free)
  }

  // MARK: As tokenizer.json

  func tokenizerJSON() throws(TokenizerConvertError) -> PieceJSON {
    var members: [(key: [UInt8], value: PieceJSON)] = [
      ("model", object(isByteLevel ? try byteLevelModel() : sentencePieceModel())),
      ("added_tokens", .array(addedTokens())),
      ("decoder", isByteLevel ? object([("type", text("ByteLevel"))]) : byteFallbackDecoder()),
      ("post_processor", postProcessor()),
    ].map { (key: Array($0.0.utf8), value: $0.1) }
    members += (isByteLevel ? preTokenizer.json : normalizer()).map {
      (key: Array($0.0.utf8), value: $0.1)
    }
    return .object(members)
  }

  /// Of byte-level pieces those that are found by merging: the others are found in the text itself.
  private var vocabulary: PieceJSON {
    let kept: Set<Kind> =
      isByteLevel ? [.normal, .byte] : [.normal, .byte, .unknown, .control, .userDefined]
    return .object(
      pieces.indices.filter { kept.contains(kinds[$0]) }.map {
        (key: pieces[$0], value: .number(Double($0)))
      })
  }

  private func byteLevelModel() throws(TokenizerConvertError) -> [(String, PieceJSON)] {
    guard let merges = try? file.strings(Self.prefix + "merges", atMost: countLimit) else {
      throw .invalid(file: file.name, problem: "tokenizer.ggml.merges is missing")
    }
    return [
      ("type", text("BPE")), ("vocab", vocabulary),
      ("merges", .array(merges.map { .string(Array($0)) })),
      ("ignore_merges", .bool(preTokenizer.ignoresMerges)),
    ]
  }

  private func sentencePieceModel() -> [(String, PieceJSON)] {
    var model: [(String, PieceJSON)] = [
      ("type", text("BPE")), ("vocab", vocabulary), ("merges", .array(mergesOfScores())),
      ("byte_fallback", .bool(true)), ("fuse_unk", .bool(true)),
    ]
    if let unknown { model.append(("unk_token", .string(pieces[Int(unknown)]))) }
    return model
  }

  /// The merges that make the same pieces as SentencePiece's scores: every way to make a piece of
  /// two others, best piece first, then by the lengths of the halves, as `transformers` orders them.
  private func mergesOfScores() -> [PieceJSON] {
    struct Merge {
      let left: ArraySlice<UInt8>
      let right: ArraySlice<UInt8>
      let score: Double
      let counts: (Int, Int)
    }
    var ids: [ArraySlice<UInt8>: Int] = [:]
    for (id, piece) in pieces.enumerated() where kinds[id] != .unused { ids[piece[...]] = id }
    var merges: [Merge] = []
    for (id, piece) in pieces.enumerated() where kinds[id] == .normal {
      // Where characters begin: halves are whole ones.
      let starts = piece.indices.filter { piece[$0] & 0xC0 != 0x80 }
      var found: [(order: (Int, Int), merge: Merge)] = []
      for (count, start) in starts.enumerated().dropFirst() {
        guard let left = ids[piece[..<start]], let right = ids[piece[start...]] else { continue }
        let score = scores.isEmpty ? 0 : scores[id]
        found.append(
          (
            (left, right),
            Merge(
              left: piece[..<start], right: piece[start...], score: score,
              counts: (count, starts.count - count))
          ))
      }
      merges += found.sorted { $0.order < $1.order }.map(\.merge)
    }
    // Stable, as the order above decides what is left.
    let sorted = merges.enumerated().sorted { a, b in
      let (x, y) = (a.element, b.element)
      if x.score != y.score { return x.score > y.score }
      return x.counts != y.counts ? x.counts > y.counts : a.offset < b.offset
    }
    return sorted.map {
      .array([.string(Array($0.element.left)), .string(Array($0.element.right))])
    }
  }

  private func addedTokens() -> [PieceJSON] {
    pieces.indices.compactMap { id in
      guard [.control, .userDefined, .unknown].contains(kinds[id]) else { return nil }
      return object([
        ("id", .number(Double(id))), ("content", .string(pieces[id])),
        ("special", .bool(kinds[id] != .userDefined)), ("normalized", .bool(false)),
      ])
    }
  }

  private func normalizer() -> [(String, PieceJSON)] {
    let mark = PieceJSON.string(spaceMarkBytes)
    var parts: [PieceJSON] = []
    if addsSpace { parts.append(object([("type", text("Prepend")), ("prepend", mark)])) }
    parts.append(
      object([
        ("type", text("Replace")), ("pattern", object([("String", text(" "))])), ("content", mark),
      ]))
    return [("normalizer", object([("type", text("Sequence")), ("normalizers", .array(parts))]))]
  }

  private func byteFallbackDecoder() -> PieceJSON {
    let mark = PieceJSON.string(spaceMarkBytes)
    var parts = [
      object([
        ("type", text("Replace")), ("pattern", object([("String", mark)])), ("content", text(" ")),
      ]),
      object([("type", text("ByteFallback"))]), object([("type", text("Fuse"))]),
    ]
    if addsSpace {
      parts.append(
        object([
          ("type", text("Strip")), ("content", text(" ")), ("start", .number(1)),
          ("stop", .number(0)),
        ]))
    }
    return object([("type", text("Sequence")), ("decoders", .array(parts))])
  }

  private func postProcessor() -> PieceJSON {
    var single: [PieceJSON] = []
    var tokens: [(String, PieceJSON)] = []
    func add(_ name: String, _ id: Int32) {
      single.append(object([("SpecialToken", object([("id", text(name))]))]))
      tokens.append((name, object([("ids", .array([.number(Double(id))]))])))
    }
    if addsBegin, let begin { add("begin", begin) }
    single.append(object([("Sequence", object([("id", text("A"))]))]))
    if addsEnd { add("end", ends[0]) }
    return object([
      ("type", text("TemplateProcessing")), ("single", .array(single)),
      ("special_tokens", object(tokens)),
    ])
  }
}

/// Control tokens that end an answer whatever the metadata says, by llama.cpp's list.
private let endTexts: Set<[UInt8]> = Set(
  [
    "<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "<EOT>",
  ].map { Array($0.utf8) })

/// `tokenizer.ggml.pre`: how a byte-level tokenizer cuts a text into words.
private enum PreTokenizer {
  case none
  case gpt2
  case digitsThenGPT2
  case llama3(ignoresMerges: Bool)
  case qwen2

  init(_ file: GGUFFile) throws(ConvertError) {
    let key = "tokenizer.ggml.pre"
    guard let name = try file.text(key) else {
      throw file.failure(key, "is missing: the file is too old to say how it reads text")
    }
    switch name {
    case "gpt-2", "phi-2", "olmo", "jais", "mpt": self = .gpt2
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
      self = .digitsThenGPT2
    case "llama3", "llama-v3", "llama-bpe", "falcon3": self = .llama3(ignoresMerges: true)
    case "smaug-bpe", "dbrx": self = .llama3(ignoresMerges: false)
    case "qwen2", "deepseek-r1-qwen", "megrez": self = .qwen2
    default: throw file.failure(key, "'\(name.shortened)' is not supported")
    }
  }

  var ignoresMerges: Bool { if case .llama3(true) = self { true } else { false } }
  var addsBegin: Bool { ignoresMerges }

  var json: [(String, PieceJSON)] {
    var parts: [PieceJSON] = []
    var pattern: String?
    switch self {
    case .none, .gpt2: break
    case .digitsThenGPT2:
      parts.append(object([("type", text("Digits")), ("individual_digits", .bool(true))]))
    case .llama3: pattern = modernPattern(numbers: #"\p{N}{1,3}"#)
    case .qwen2: pattern = modernPattern(numbers: #"\p{N}"#)
    }
    if let pattern {
      parts.append(
        object([
          ("type", text("Split")), ("pattern", object([("Regex", text(pattern))])),
          ("behavior", text("Isolated")), ("invert", .bool(false)),
        ]))
    }
    parts.append(
      object([
        ("type", text("ByteLevel")), ("add_prefix_space", .bool(false)),
        ("use_regex", .bool(pattern == nil)),
      ]))
    let sequence = object([("type", text("Sequence")), ("pretokenizers", .array(parts))])
    guard case .qwen2 = self else { return [("pre_tokenizer", sequence)] }
    return [("pre_tokenizer", sequence), ("normalizer", object([("type", text("NFC"))]))]
  }
}

private func object(_ members: [(String, PieceJSON)]) -> PieceJSON {
  .object(members.map { (key: Array($0.0.utf8), value: $0.1) })
}

private func text(_ text: String) -> PieceJSON { .string(Array(text.utf8)) }
