import PIOBase
import PIOFormat
import PIOText

extension Runtime {
  /// A turn exactly as given; the first one gets what the tokenizer adds in front (its begin token). `<image>` stands for
  /// an image, and so does the model's own placeholder.
  public func rawTokens(_ text: String, isFirst: Bool) throws(RuntimeError) -> [Int32] {
    try checkLength(of: text)
    let text = withOwnPlaceholders(text)
    try checkLength(of: text)
    return tokenizer.encode(text, addSpecialTokens: isFirst, continues: !isFirst)
  }

  /// A turn in the model's chat template, up to where the answer begins. Control tokens count in the template alone.
  ///
  /// A later turn starts with what ends the answer before it: that was sampled and not run, or never came.
  public func turnTokens(_ question: String, system: String?, imageCount: Int, isFirst: Bool)
    throws(RuntimeError) -> [Int32]
  {
    try checkLength(of: question)
    try checkLength(of: system ?? "")
    let parts = config.prompt
    let turn = PromptTemplate.Turn(imageCount: imageCount, question: question)
    let pieces =
      isFirst
      ? parts.firstQuestion(turn, system: system)
      : [.special(parts.assistantSuffix)] + parts.laterQuestion(turn)
    return tokenizer.encode(
      pieces, addSpecialTokens: isFirst && config.prompt.addsBeginToken, continues: !isFirst)
  }

  /// `text` with `<|image_pad|>`, or what the model calls it, where `<image>` was.
  private func withOwnPlaceholders(_ text: String) -> String {
    let usual = Array("<image>".utf8)
    let own = tokenizer.pieceBytes(config.specialTokens.image)
    guard config.vision != nil, !own.isEmpty, !own.elementsEqual(usual) else { return text }
    var bytes: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.first {
      let isUsual = rest.starts(with: usual)
      if isUsual { bytes += own } else { bytes.append(byte) }
      rest = rest.dropFirst(isUsual ? usual.count : 1)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Bytes of a prompt that are worth encoding.
  public var maxTextBytes: Int {
    plan.limits.maxTextBytes(maxPieceBytes: tokenizer.maxPieceByteCount)
  }

  /// Bytes of a line of JSON with such a prompt: escaped, beside the names of images.
  public var maxLineBytes: Int {
    plan.limits.maxLineBytes(maxPieceBytes: tokenizer.maxPieceByteCount)
  }

  private func checkLength(of text: String) throws(RuntimeError) {
    guard text.utf8.count <= maxTextBytes else {
      throw .textTooLong(bytes: text.utf8.count, maxBytes: maxTextBytes)
    }
  }
}
