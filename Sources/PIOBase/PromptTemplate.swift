/// A chat template as data: the strings around the turns. `{}` never occurs; the parts are joined in order.
///
/// A conversation is `conversationPrefix`, the system part, then for each turn `userPrefix`, `imagePart` for every
/// image, `textPrefix` (`bareTextPrefix` where there is no image), the question, `userSuffix`, `assistantPrefix`, the
/// answer, `assistantSuffix`. Two rules:
/// - Where `systemPrefix` starts with `userPrefix` (`[INST] <<SYS>>`), a system part stands inside
///   the first user turn, in the place of its prefix.
/// - An answer in a conversation's past has a space in front if `assistantPrefix` does not end in
///   white space (`ASSISTANT: Yes`): a model asked to go on after `ASSISTANT:` writes it itself.
/// Special tokens inside (`<s>`, `</s>`, `<|eot_id|>`, `<image>`) are recognised as such.
public struct PromptTemplate: Equatable, Sendable {
  /// The template's name: `vicuna_v1`, `llama2`, `llama3`, `mistral`, `chatml`, `plain`, `llava`…
  public var name = "plain"
  public var conversationPrefix = ""
  public var systemPrefix = ""
  public var systemSuffix = ""
  /// Used when the person gives none; empty: then there is no system part.
  public var defaultSystem = ""
  public var userPrefix = ""
  public var userSuffix = ""
  public var assistantPrefix = ""
  public var assistantSuffix = ""
  /// One image, with what follows it: `<image>\n`.
  public var imagePart = "<image>\n"
  /// Stands in front of the text, behind the images.
  public var textPrefix = ""
  /// Stands in front of the text of a turn without images; nil: `textPrefix` does.
  public var bareTextPrefix: String?
  /// The tokenizer's own beginning-of-text token is added in front of a conversation.
  public var addsBeginToken = true

  public init() {}
}
