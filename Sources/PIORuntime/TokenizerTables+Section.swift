import PIOFormat
import PIOText

/// The tokenizer that the file holds, as views of it.
public func loadTokenizer(of file: borrowing ModelFile) throws(RuntimeError) -> Tokenizer {
  let roles = file.config.specialTokens
  return try loadTokenizer(
    file.tokenizerSection, vocabSize: file.config.text.vocabSize,
    control: [roles.begin, roles.image] + roles.end)
}

/// `bytes`: a tokenizer section, which must outlive the tokenizer. `control`: as in `Tokenizer.init`.
public func loadTokenizer(
  _ bytes: UnsafeRawBufferPointer, vocabSize: Int, control: [Int32] = []
) throws(RuntimeError) -> Tokenizer {
  do {
    let section = try TokenizerSection(bytes, vocabSize: vocabSize)
    return Tokenizer(TokenizerTables(section), control: control)
  } catch {
    throw .tokenizer(error)
  }
}

extension TokenizerTables {
  /// The tables of a model file's tokenizer section, which has checked them; no copy is made.
  init(_ section: TokenizerSection) {
    self.init()
    flags = Flags(rawValue: section.flags.rawValue)
    func step(_ code: TokenizerContents.Step) -> Step { Step(rawValue: code.rawValue) ?? .none }
    steps = (
      step(section.steps.0), step(section.steps.1), step(section.steps.2), step(section.steps.3)
    )
    metaspace = Metaspace(rawValue: section.metaspace.rawValue) ?? .absent
    decoder = Decoder(rawValue: section.decoder.rawValue) ?? .byteLevel
    strippedSpaces = section.strippedSpaces
    unknownID = section.unknownID
    longestPiece = section.longestPiece
    byteIDs = section.byteIDs
    beginIDs = section.beginIDs
    endIDs = section.endIDs
    textOffsets = section.textOffsets
    texts = section.texts
    pieceFlags = section.pieceFlags
    keyOffsets = section.keyOffsets
    keys = section.keys
    keySlots = section.keySlots
    merges = section.merges
    mergeSlots = section.mergeSlots
    added = section.added
    addedOffsets = section.addedOffsets
    addedBytes = section.addedBytes
    rawAddedCount = section.rawAddedCount
  }
}
