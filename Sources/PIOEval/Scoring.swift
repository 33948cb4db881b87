extension Question {
  /// How right an answer is, from 0 to 1.
  public func score(_ answer: String) -> Double {
    switch truth {
    case .answer(let right): exactForm(answer) == exactForm(right) ? 1 : 0
    case .answers(let all): vqaScore(answer, all)
    case .yesOrNo(let right): saysYes(answer) == right ? 1 : 0
    }
  }
}

/// What exact match compares: lower case, one space between words, no full stop at the end.
public func exactForm(_ text: String) -> String {
  var words = text.lowercased().split(whereSeparator: \.isWhitespace).joined(separator: " ")
  while words.last == "." { words.removeLast() }
  return words
}

/// The VQA rule: the mean, over every choice of all people but one, of min(1, how many of them said so / 3).
///
/// With fewer than four answers, which are then other ways to say the same: 1 if one of them was given.
/// Source: Antol et al. 2015, arXiv:1505.00468, and the evaluation code that its authors published.
func vqaScore(_ answer: String, _ answers: [String]) -> Double {
  let given = vqaForm(answer)
  let matches = answers.reduce(0) { $0 + (vqaForm($1) == given ? 1 : 0) }
  guard answers.count >= 4 else { return matches > 0 ? 1 : 0 }
  let (others, own) = (min(1, Double(matches) / 3), min(1, Double(max(0, matches - 1)) / 3))
  return (Double(answers.count - matches) * others + Double(matches) * own)
    / Double(answers.count)
}

/// Lower case, without articles and punctuation, number words as digits.
///
/// As the published code has it, except that apostrophes are dropped instead of looked up in a table of
/// contractions: `dont`, `don't` and `Don't` are the same either way.
func vqaForm(_ text: String) -> String {
  let characters = Array(text.lowercased())
  func isDigit(_ index: Int) -> Bool {
    characters.indices.contains(index) && ("0"..."9").contains(characters[index])
  }
  let hasDigitComma = characters.indices.contains {
    characters[$0] == "," && isDigit($0 - 1) && isDigit($0 + 1)
  }
  func isSpace(_ index: Int) -> Bool {
    characters.indices.contains(index) && characters[index].isWhitespace
  }
  // A mark that stands free anywhere is dropped everywhere, else it parts words.
  var free: Set<Character> = []
  for (index, character) in characters.enumerated()
  where marks.contains(character) && (isSpace(index - 1) || isSpace(index + 1)) {
    free.insert(character)
  }
  var plain = ""
  for (index, character) in characters.enumerated() {
    if marks.contains(character) {
      if !hasDigitComma && !free.contains(character) { plain.append(" ") }
    } else if character == "'" || character == "’" || (character == "." && !isDigit(index + 1)) {
      continue
    } else {
      plain.append(character)
    }
  }
  let words = plain.split(whereSeparator: \.isWhitespace).map { numbers[String($0)] ?? String($0) }
  return words.filter { !["a", "an", "the"].contains($0) }.joined(separator: " ")
}

private let marks: Set<Character> = [
  ";", "/", "[", "]", "\"", "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",",
  "?", "!",
]

private let numbers = [
  "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5",
  "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10",
]

/// Whether an answer to a yes-or-no question means yes: no word of its first sentence is `no` or `not`.
///
/// Source: Li et al. 2023 (POPE), arXiv:2305.10355, as LLaVA's evaluation reads answers.
func saysYes(_ answer: String) -> Bool {
  let sentence = answer.lowercased().prefix { $0 != "." }
  let words = sentence.split { !$0.isLetter && $0 != "'" }
  return !words.contains { $0 == "no" || $0 == "not" }
}
