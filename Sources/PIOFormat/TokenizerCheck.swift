import PIOBase

/// Where the tokenizer's own layout is checked, when a file is opened and before one is written:
/// nil, or what is wrong with it. An empty section is that of a file without a tokenizer.
func tokenizerError(
  _ section: UnsafeRawBufferPointer, _ config: ModelConfig
) -> ModelFileError? {
  if section.isEmpty { return nil }
  do {
    _ = try TokenizerTables(section, vocabSize: config.text.vocabSize)
    return nil
  } catch {
    return .tokenizer(problem: "\(error)")
  }
}
