import PIOFormat
import PIOText

extension Engine {
  /// A turn exactly as given; the first one gets what the tokenizer adds in front (its begin token).
  public func rawTokens(_ text: String, isFirst: Bool) -> [Int32] {
    tokenizer.encode(text, addSpecialTokens: isFirst, continues: !isFirst)
  }

  /// A turn in the model's chat template, up to where the answer begins.
  ///
  /// A later turn starts with what ends the answer before it: that was sampled and not run, or never came.
  public func turnTokens(_ question: String, system: String?, imageCount: Int, isFirst: Bool)
    -> [Int32]
  {
    let parts = ChatParts(config.prompt)
    let turn = ChatParts.Turn(imageCount: imageCount, question: question)
    let text =
      isFirst
      ? parts.firstQuestion(turn, system: system)
      : parts.assistantSuffix + parts.laterQuestion(turn)
    return tokenizer.encode(
      text, addSpecialTokens: isFirst && config.prompt.addsBeginToken, continues: !isFirst)
  }
}
