/// What becomes of each of an image's tokens while an encoder's reduction decides: marks below zero, in the end the token
/// that stands for it.
struct TokenMarks {
  static let rest: Int32 = -1
  /// Handed over as it is.
  static let dominant: Int32 = -2
  /// Handed over, and others with it.
  static let target: Int32 = -3
  /// Shows nothing of the image.
  static let padding: Int32 = -4

  let marks: UnsafeMutablePointer<Int32>
  let count: Int

  /// Marks as many of the rest as there are and as are asked for, of the highest scores; ties: the earlier token.
  func markHighest(
    _ number: Int, by scores: UnsafePointer<Float>, as mark: Int32,
    where isCandidate: (Int) -> Bool = { _ in true }
  ) {
    for _ in 0..<number {
      var best = -1
      for token in 0..<count where marks[token] == Self.rest && isCandidate(token) {
        if best < 0 || scores[token] > scores[best] { best = token }
      }
      guard best >= 0 else { return }
      marks[best] = mark
    }
  }

  /// Makes every ⌊rest / `number`⌋-th of the rest a target.
  func pickTargets(_ number: Int) {
    guard number > 0 else { return }
    var rest = 0
    for token in 0..<count where marks[token] == Self.rest { rest += 1 }
    let step = max(1, rest / number)
    var (seen, picked) = (0, 0)
    for token in 0..<count where marks[token] == Self.rest {
      if seen % step == 0 && picked < number {
        marks[token] = Self.target
        picked += 1
      }
      seen += 1
    }
  }

  /// What was handed over stands for itself.
  func settle() {
    for token in 0..<count where marks[token] < 0 { marks[token] = Int32(token) }
  }
}
