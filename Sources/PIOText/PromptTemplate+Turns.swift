import PIOBase

/// The pieces of a conversation.
extension PromptTemplate {
  public struct Turn: Equatable, Sendable {
    public var imageCount: Int
    public var question: String
    /// Nil in the turn that is to be answered.
    public var answer: String?
    public init(imageCount: Int, question: String, answer: String? = nil) {
      self.imageCount = imageCount
      self.question = question
      self.answer = answer
    }
  }

  /// The whole conversation. `system`: nil for the default, empty for none.
  public func render(system: String? = nil, turns: [Turn]) -> [PromptPiece] {
    var pieces: [PromptPiece] = []
    for (i, turn) in turns.enumerated() {
      pieces += i == 0 ? firstQuestion(turn, system: system) : laterQuestion(turn)
      if let answer = turn.answer { pieces += answered(answer) }
    }
    return pieces
  }

  /// The system part and the first turn, up to where the answer begins.
  public func firstQuestion(_ turn: Turn, system: String? = nil) -> [PromptPiece] {
    [.special(conversationPrefix)] + systemPart(turn, system)
  }

  private func systemPart(_ turn: Turn, _ system: String?) -> [PromptPiece] {
    let given = system.map { PromptPiece.text($0) } ?? .special(defaultSystem)
    if given.string.isEmpty { return laterQuestion(turn) }
    let opensTurn = !userPrefix.isEmpty && systemPrefix.hasPrefix(userPrefix)
    return [.special(systemPrefix), given, .special(systemSuffix + (opensTurn ? "" : userPrefix))]
      + body(turn)
  }

  /// A later turn, up to where the answer begins.
  public func laterQuestion(_ turn: Turn) -> [PromptPiece] {
    [.special(userPrefix)] + body(turn)
  }

  /// An answer of the past, to the end of its turn.
  public func answered(_ answer: String) -> [PromptPiece] {
    let needsSpace = assistantPrefix.last.map { !$0.isWhitespace } ?? false
    return [.text((needsSpace ? " " : "") + answer), .special(assistantSuffix)]
  }

  private func body(_ turn: Turn) -> [PromptPiece] {
    let images = String(repeating: imagePart, count: max(0, turn.imageCount))
    let prefix = turn.imageCount > 0 ? textPrefix : bareTextPrefix ?? textPrefix
    return [
      .special(images + prefix), .text(turn.question), .special(userSuffix + assistantPrefix),
    ]
  }
}
