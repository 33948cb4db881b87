import PIOBase
import PIOFormat
import PIOText

/// The tokenizer that the file holds, as views of it.
public func loadTokenizer(of file: borrowing ModelFile) throws(RuntimeError) -> Tokenizer {
  let roles = file.config.specialTokens
  let plain = try loadTokenizer(file.tokenizerSection, vocabSize: file.config.text.vocabSize)
  // Markers of tiles that are tokens of their own, flagged as special or not; other markers are made of words' pieces.
  let markers = (file.config.vision?.markerTokens ?? []).filter { id in
    let piece = plain.pieceBytes(id)
    return piece.count > 2 && piece.first == UInt8(ascii: "<") && piece.last == UInt8(ascii: ">")
  }
  return try loadTokenizer(
    file.tokenizerSection, vocabSize: file.config.text.vocabSize,
    control: [roles.begin, roles.image] + roles.end + markers)
}

/// `bytes`: a tokenizer section, which must outlive the tokenizer. `control`: as in `Tokenizer.init`.
public func loadTokenizer(
  _ bytes: UnsafeRawBufferPointer, vocabSize: Int, control: [Int32] = []
) throws(RuntimeError) -> Tokenizer {
  do {
    return Tokenizer(try TokenizerTables(bytes, vocabSize: vocabSize), control: control)
  } catch {
    throw .tokenizer(error)
  }
}
