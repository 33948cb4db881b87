import PIOFormat

// Delete this file together with the landing of the tokenizer reader, which has these names.

struct ConvertedTokenizer {
  var section: [UInt8]
  var special: SpecialTokens
  var prompt: PromptTemplate
}

public enum TokenizerConvertError: Error, Equatable, Sendable { case missing }

func readTokenizer(
  folder: String, chatTemplate: String?, vocabSize: Int, imageTokenID: Int?
) throws(TokenizerConvertError) -> ConvertedTokenizer {
  var special = SpecialTokens()
  special.image = Int32(imageTokenID ?? -1)
  return ConvertedTokenizer(section: [], special: special, prompt: PromptTemplate())
}
