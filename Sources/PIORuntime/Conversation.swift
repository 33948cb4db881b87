import PIOFormat
import PIOText

extension Engine {
  /// A turn exactly as given; the first one gets what the tokenizer adds in front (its begin token).
  public func rawTokens(_ text: String, isFirst: Bool) throws(RuntimeError) -> [Int32] {
    try check(text)
    return tokenizer.encode(text, addSpecialTokens: isFirst, continues: !isFirst)
  }

  /// A turn in the model's chat template, up to where the answer begins.
  ///
  /// A later turn starts with what ends the answer before it: that was sampled and not run, or never came.
  public func turnTokens(_ question: String, system: String?, imageCount: Int, isFirst: Bool)
    throws(RuntimeError) -> [Int32]
  {
    try check(question)
    if let system { try check(system) }
    let parts = ChatParts(config.prompt)
    let turn = ChatParts.Turn(imageCount: imageCount, question: question)
    let text =
      isFirst
      ? parts.firstQuestion(turn, system: system)
      : parts.assistantSuffix + parts.laterQuestion(turn)
    return tokenizer.encode(
      text, addSpecialTokens: isFirst && config.prompt.addsBeginToken, continues: !isFirst)
  }

  /// Bytes of a prompt that are worth encoding.
  public var maxTextBytes: Int {
    plan.limits.maxTextBytes(maxPieceBytes: tokenizer.maxPieceByteCount)
  }

  private func check(_ text: String) throws(RuntimeError) {
    guard text.utf8.count <= maxTextBytes else {
      throw .textTooLong(bytes: text.utf8.count, maxBytes: maxTextBytes)
    }
  }
}
