import PIOFormat

/// What stands for an image in chat templates, and what its token is called where a vocabulary has
/// none; the same in all families.
let imagePlaceholder = "<image>"

extension PromptTemplate {
  /// Puts the checkpoint's token in the place of `imagePlaceholder`, with which `imagePart` begins.
  mutating func setImageToken(_ text: String) {
    imagePart = text + imagePart.dropFirst(imagePlaceholder.count)
  }
}
