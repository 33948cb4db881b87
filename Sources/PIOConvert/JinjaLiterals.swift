/// The string literals inside tags and the text outside of them, in order; without the white space that a tag's `-` takes
/// away on its side.
func jinjaLiterals(_ jinja: String) -> [String] {
  var scanner = JinjaScanner(text: Array(jinja.unicodeScalars))
  return scanner.literals()
}

private struct JinjaScanner {
  let text: [Unicode.Scalar]
  var i = 0
  var found: [String] = []
  /// The tag in front takes white space away.
  private var trimsNext = false

  init(text: [Unicode.Scalar]) { self.text = text }

  mutating func literals() -> [String] {
    var outside = ""
    while i < text.count {
      if starts("{#") {
        skip(past: "#}")
      } else if starts("{{") || starts("{%") {
        let close = starts("{{") ? "}}" : "%}"
        if i + 2 < text.count, text[i + 2] == "-" {
          while outside.last?.isWhitespace == true { outside.removeLast() }
        }
        appendText(&outside)
        i += 2
        tag(close)
      } else {
        let isTrimmed = trimsNext && text[i].properties.isWhitespace
        if !isTrimmed {
          outside.unicodeScalars.append(text[i])
          trimsNext = false
        }
        i += 1
      }
    }
    appendText(&outside)
    return found
  }

  private func starts(_ mark: String) -> Bool {
    text[i...].starts(with: mark.unicodeScalars)
  }

  private mutating func skip(past mark: String) {
    while i < text.count && !starts(mark) { i += 1 }
    i = min(text.count, i + 2)
  }

  private mutating func appendText(_ outside: inout String) {
    if outside.contains(where: { !$0.isWhitespace }) { found.append(outside) }
    outside = ""
  }

  private mutating func tag(_ close: String) {
    var inException = false
    while i < text.count && !starts(close) {
      if text[i] == "'" || text[i] == "\"" {
        let literal = quoted()
        if !inException { found.append(literal) }
      } else {
        if starts("raise_exception") { inException = true }
        i += 1
      }
    }
    trimsNext = i < text.count && i > 0 && text[i - 1] == "-"
    i = min(text.count, i + 2)
  }

  private mutating func quoted() -> String {
    let quote = text[i]
    var literal = ""
    i += 1
    while i < text.count && text[i] != quote {
      var scalar = text[i]
      if scalar == "\\" && i + 1 < text.count {
        i += 1
        scalar = text[i] == "n" ? "\n" : text[i] == "t" ? "\t" : text[i]
      }
      literal.unicodeScalars.append(scalar)
      i += 1
    }
    i += 1
    return literal
  }
}
