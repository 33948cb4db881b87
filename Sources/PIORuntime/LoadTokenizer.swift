import PIOBase
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
    return Tokenizer(try TokenizerTables(bytes, vocabSize: vocabSize), control: control)
  } catch {
    throw .tokenizer(error)
  }
}
