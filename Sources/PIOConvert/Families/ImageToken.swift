import PIOBase
import PIOFormat

/// What stands for an image in chat templates, and what its token is called where a vocabulary has
/// none; the same in all families.
let imagePlaceholder = "<image>"

extension PromptTemplate {
  /// Puts the checkpoint's token in the place of `imagePlaceholder` in `imagePart`.
  mutating func setImageToken(_ text: String) {
    guard
      let start = imagePart.indices.first(where: { imagePart[$0...].hasPrefix(imagePlaceholder) })
    else { return }
    let end = imagePart.index(start, offsetBy: imagePlaceholder.count)
    imagePart = imagePart[..<start] + text + imagePart[end...]
  }
}
