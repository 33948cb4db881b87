import PIOFormat

/// The parts of `tokenizer.json` around the model: normalizer, pre-tokenizer, post-processor and
/// decoder. What the runtime has no code for is refused by its name.
struct TokenizerPipeline {
  var flags: TokenizerContents.Flags = []
  var steps: [TokenizerContents.Step] = []
  var metaspace = TokenizerContents.Metaspace.absent
  var decoder = TokenizerContents.Decoder.byteLevel
  var strippedSpaces = 0
  /// The decoder turns `▁` into a space, and `<0xNN>` into its byte.
  var decodesSpaceMarks = false
  var decodesBytes = false
  var beginIDs: [Int32] = []
  var endIDs: [Int32] = []

  init(_ json: PieceJSON) throws(TokenizerConvertError) {
    for part in try Self.parts(json.member("normalizer"), "normalizers") {
      try readNormalizer(part)
    }
    try readPreTokenizer(try Self.parts(json.member("pre_tokenizer"), "pretokenizers"))
    for part in try Self.parts(json.member("post_processor"), "processors") {
      try readPostProcessor(part)
    }
    try readDecoder(try Self.parts(json.member("decoder"), "decoders"))
    if flags.contains(.byteLevel) != (decoder == .byteLevel) {
      throw Self.unsupported(
        "a ByteLevel pre-tokenizer without a ByteLevel decoder, or the reverse,")
    }
  }

  /// The members of a Sequence, or the one part itself.
  private static func parts(
    _ value: PieceJSON?, _ list: String
  ) throws(TokenizerConvertError) -> [PieceJSON] {
    guard let value else { return [] }
    if value["type"]?.string != "Sequence" { return [value] }
    var parts: [PieceJSON] = []
    for part in value[list]?.array ?? [] { parts += try Self.parts(part, list) }
    return parts
  }

  private static func unsupported(_ what: String) -> TokenizerConvertError {
    .unsupported(file: TokenizerFolder.main, what: what)
  }

  private static func name(_ value: PieceJSON) -> String { value["type"]?.string ?? "?" }

  // MARK: Normalizer

  private mutating func readNormalizer(_ part: PieceJSON) throws(TokenizerConvertError) {
    switch Self.name(part) {
    case "NFC": flags.insert(.composes)
    case "Prepend" where part["prepend"]?.bytes == spaceMarkBytes && !flags.contains(.prepends):
      flags.insert(.prepends)
    case "Replace"
    where part["pattern"]?["String"]?.string == " " && part["content"]?.bytes == spaceMarkBytes:
      flags.insert(.replacesSpaces)
    case "Prepend", "Replace":
      throw Self.unsupported(
        "normalizer '\(Self.name(part))' of anything but spaces and ▁")
    case let name: throw Self.unsupported("normalizer '\(name)'")
    }
  }

  // MARK: Pre-tokenizer

  private mutating func readPreTokenizer(_ parts: [PieceJSON]) throws(TokenizerConvertError) {
    for (i, part) in parts.enumerated() {
      switch Self.name(part) {
      case "ByteLevel" where !flags.contains(.byteLevel):
        flags.insert(.byteLevel)
        if part["add_prefix_space"]?.bool ?? true {
          guard i == 0 else {
            throw Self.unsupported("pre-tokenizer 'ByteLevel' with add_prefix_space after another")
          }
          flags.insert(.prefixSpace)
        }
        if part["use_regex"]?.bool ?? true { steps.append(.gpt2) }
      case "Split": steps.append(try split(part))
      case "Digits":
        steps.append(part["individual_digits"]?.bool == true ? .eachDigit : .digitRuns)
      case "Metaspace" where parts.count == 1: try readMetaspace(part)
      case let name: throw Self.unsupported("pre-tokenizer '\(name)' at this position")
      }
      if flags.contains(.byteLevel) && i < parts.count - 1 {
        throw Self.unsupported("pre-tokenizer '\(Self.name(parts[i + 1]))' after 'ByteLevel'")
      }
    }
    guard steps.count <= 4 else {
      throw Self.unsupported("a sequence of \(steps.count) splits, more than 4,")
    }
  }

  /// Every character belongs to a match of these patterns, so isolating the matches and removing
  /// what is none of them are the same.
  private func split(_ part: PieceJSON) throws(TokenizerConvertError) -> TokenizerContents.Step {
    let inverted = part["invert"]?.bool ?? false
    let behavior = part["behavior"]?.string ?? "?"
    guard (behavior == "Isolated" && !inverted) || (behavior == "Removed" && inverted) else {
      throw Self.unsupported("pre-tokenizer 'Split' with behavior '\(behavior)'")
    }
    let pattern = part["pattern"]?["Regex"]?.string ?? part["pattern"]?["String"]?.string ?? "?"
    switch part["pattern"]?["Regex"]?.string {
    case gpt2Pattern: return .gpt2
    case modernPattern(numbers: #"\p{N}{1,3}"#): return .llama3
    case modernPattern(numbers: #"\p{N}"#): return .qwen2
    default: throw Self.unsupported("pre-tokenizer 'Split' with pattern '\(pattern)'")
    }
  }

  private mutating func readMetaspace(_ part: PieceJSON) throws(TokenizerConvertError) {
    guard part["replacement"]?.bytes == spaceMarkBytes else {
      throw Self.unsupported("pre-tokenizer 'Metaspace' with a replacement other than ▁")
    }
    metaspace = try scheme(part)
    if part["split"]?.bool ?? true { steps.append(.beforeSpaceMark) }
  }

  private func scheme(
    _ part: PieceJSON
  ) throws(TokenizerConvertError) -> TokenizerContents.Metaspace {
    switch part.member("prepend_scheme")?.string {
    case "always": return .always
    case "first": return .first
    case "never": return .never
    case nil: return part["add_prefix_space"]?.bool ?? true ? .always : .never
    case let name?: throw Self.unsupported("Metaspace with prepend_scheme '\(name)'")
    }
  }

  // MARK: Post-processor

  private mutating func readPostProcessor(_ part: PieceJSON) throws(TokenizerConvertError) {
    switch Self.name(part) {
    case "ByteLevel": return  // trims offsets, which are not used
    case "TemplateProcessing": try readTemplate(part)
    case let name: throw Self.unsupported("post-processor '\(name)'")
    }
  }

  private mutating func readTemplate(_ part: PieceJSON) throws(TokenizerConvertError) {
    guard beginIDs.isEmpty && endIDs.isEmpty else {
      throw Self.unsupported("a second post-processor 'TemplateProcessing'")
    }
    var seesText = false
    for item in part["single"]?.array ?? [] {
      if item.member("Sequence")?["id"]?.string == "A" && !seesText {
        seesText = true
        continue
      }
      guard let token = item.member("SpecialToken")?["id"]?.string,
        let ids = part["special_tokens"]?[token]?["ids"]?.array
      else {
        throw .invalid(file: TokenizerFolder.main, problem: "TemplateProcessing is invalid")
      }
      for value in ids {
        guard let id = value.id else {
          throw .invalid(
            file: TokenizerFolder.main,
            problem: "TemplateProcessing has an id that is not an integer")
        }
        if seesText { endIDs.append(id) } else { beginIDs.append(id) }
      }
    }
    guard seesText else { throw Self.unsupported("TemplateProcessing without a text") }
  }

  // MARK: Decoder

  private mutating func readDecoder(_ parts: [PieceJSON]) throws(TokenizerConvertError) {
    guard let first = parts.first else { throw Self.unsupported("a tokenizer without a decoder") }
    switch (Self.name(first), parts.count) {
    case ("ByteLevel", 1): decoder = .byteLevel
    case ("Metaspace", 1):
      guard first["replacement"]?.bytes == spaceMarkBytes else {
        throw Self.unsupported("decoder 'Metaspace' with a replacement other than ▁")
      }
      decoder = .metaspace
      decodesSpaceMarks = true
      strippedSpaces = try scheme(first) == .never ? 0 : 1
    default:
      decoder = .byteFallback
      try readDecoderSequence(parts)
    }
  }

  /// Replace, ByteFallback, Fuse, Strip, in this order; each may be missing.
  private mutating func readDecoderSequence(_ parts: [PieceJSON]) throws(TokenizerConvertError) {
    let order = ["Replace", "ByteFallback", "Fuse", "Strip"]
    var last = -1
    for part in parts {
      let name = Self.name(part)
      guard let position = order.firstIndex(of: name), position > last else {
        throw Self.unsupported("decoder '\(name)' at this position")
      }
      switch name {
      case "Replace":
        guard part["pattern"]?["String"]?.bytes == spaceMarkBytes, part["content"]?.string == " "
        else { throw Self.unsupported("decoder 'Replace' of anything but ▁ by a space") }
        decodesSpaceMarks = true
      case "ByteFallback": decodesBytes = true
      case "Strip":
        guard last == 2, part["content"]?.string == " ", part["stop"]?.id == 0,
          let start = part["start"]?.id, start >= 0, start <= 16
        else { throw Self.unsupported("decoder 'Strip' of anything but spaces at the start") }
        strippedSpaces = Int(start)
      default: break
      }
      last = position
    }
  }
}

/// `▁`, U+2581.
let spaceMarkBytes: [UInt8] = [0xE2, 0x96, 0x81]

let gpt2Pattern =
  #"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"#

func modernPattern(numbers: String) -> String {
  #"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"# + numbers
    + #"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"#
}
