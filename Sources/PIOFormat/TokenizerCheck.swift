/// Where the tokenizer's own layout is checked, when a file is opened and before one is written:
/// nil, or what is wrong with it.
func tokenizerError(
  _ section: UnsafeRawBufferPointer, _ config: ModelConfig
) -> ModelFileError? {
  nil
}
