import PIOBase
import PIOFormat

/// A question about an image, and what counts as the right answer.
public struct Question: Equatable, Sendable {
  /// File name inside the folder of images.
  public let image: String
  public let text: String
  public let family: String
  public let truth: Truth

  public enum Truth: Equatable, Sendable {
    /// The one right answer.
    case answer(String)
    /// What people answered: the VQA rule.
    case answers([String])
    /// POPE's label.
    case yesOrNo(Bool)
  }

  public init(image: String, text: String, family: String, truth: Truth) {
    self.image = image
    self.text = text
    self.family = family
    self.truth = truth
  }
}

/// Questions as a file has them, and the images they are about.
public struct QuestionSet: Sendable {
  public let questions: [Question]
  /// Each image's questions, images by first appearance.
  public let images: [(image: String, questions: [Int])]
  /// By first appearance.
  public let families: [String]

  /// Nobody asks more in one file.
  public static let maxQuestions = 1 << 20
  /// Each is a column of the report.
  public static let maxFamilies = 64
  static let maxFamilyBytes = 64
  static let maxLineBytes = 1 << 16
  private static let maxNodes = 1024

  public init(_ questions: [Question]) {
    self.questions = questions
    var places: [String: Int] = [:]
    var images: [(image: String, questions: [Int])] = []
    var families: [String] = []
    var seen: Set<String> = []
    for (index, question) in questions.enumerated() {
      if let place = places[question.image] {
        images[place].questions.append(index)
      } else {
        places[question.image] = images.count
        images.append((question.image, [index]))
      }
      if seen.insert(question.family).inserted { families.append(question.family) }
    }
    self.images = images
    self.families = families
  }

  /// Reads JSON lines: `image`; `question` or `text`; `answer`, a list of `answers`, or `label` (yes, no); and where
  /// there is one a `family` or `category`. Other keys are passed over, empty lines too.
  ///
  /// The file is not trusted: a line has at most 64 KiB and 1,024 values, an image's name stays inside its folder.
  /// `limit`: only the first ones.
  public init(path: String, limit: Int? = nil) throws(EvalError) {
    let file = try LineFile(path: path, maxLineBytes: Self.maxLineBytes)
    var found: [Question] = []
    let most = min(limit ?? Int.max, Self.maxQuestions + 1)
    try file.forEach { (number, line, _) throws(EvalError) in
      if line.allSatisfy({ $0 == 0x20 || $0 == 0x09 || $0 == 0x0D }) { return true }
      do {
        found.append(try Self.question(line))
      } catch {
        throw .badLine(path: path, line: number, problem: "\(error)")
      }
      return found.count < most
    }
    guard found.count <= Self.maxQuestions else {
      throw .tooManyQuestions(path: path, limit: Self.maxQuestions)
    }
    guard !found.isEmpty else { throw .noQuestions(path: path) }
    self.init(found)
    guard families.count <= Self.maxFamilies else {
      throw .tooManyFamilies(path: path, limit: Self.maxFamilies)
    }
  }

  private struct Problem: Error, CustomStringConvertible {
    let description: String
  }

  private static func question(_ line: ArraySlice<UInt8>) throws -> Question {
    let value = try line.withUnsafeBytes { bytes throws(JSONError) in
      try JSONReader.parse(bytes, nodeLimit: maxNodes)
    }
    guard case .object(let members) = value else { throw Problem(description: "not a JSON object") }
    func string(_ keys: String...) throws -> String? {
      for key in keys {
        switch members[key] {
        case nil, .null: continue
        case .string(let text): return text
        // POPE's ids and GQA's numbers stay what they say.
        case .integer(let number): return String(number)
        default: throw Problem(description: "'\(key)' is not a string")
        }
      }
      return nil
    }
    guard let image = try string("image") else { throw Problem(description: "'image' is missing") }
    guard isInside(image) else {
      throw Problem(description: "'image' must name a file inside the folder of images")
    }
    guard let text = try string("question", "text"), !text.isEmpty else {
      throw Problem(description: "'question' (or 'text') is missing")
    }
    let family = try string("family", "category") ?? "questions"
    guard !family.isEmpty, family.utf8.count <= maxFamilyBytes else {
      throw Problem(description: "'family' is empty or longer than \(maxFamilyBytes) bytes")
    }
    return Question(image: image, text: text, family: family, truth: try truth(members))
  }

  private static func truth(_ members: [String: JSONValue]) throws -> Question.Truth {
    let given = ["answer", "answers", "label"].filter { members[$0] != nil }
    guard given.count == 1 else {
      throw Problem(description: "exactly one of 'answer', 'answers' and 'label' is needed")
    }
    switch members[given[0]] {
    case .string(let text) where given[0] == "answer": return .answer(text)
    case .integer(let number) where given[0] == "answer": return .answer(String(number))
    case .string(let text) where given[0] == "label":
      switch text.lowercased() {
      case "yes": return .yesOrNo(true)
      case "no": return .yesOrNo(false)
      default: throw Problem(description: "'label' is neither yes nor no")
      }
    case .array(let values) where given[0] == "answers" && !values.isEmpty:
      return .answers(
        try values.map {
          guard case .string(let text) = $0 else {
            throw Problem(description: "'answers' must be a list of strings")
          }
          return text
        })
    default: throw Problem(description: "'\(given[0])' has the wrong type")
    }
  }

  private static func isInside(_ name: String) -> Bool {
    !name.isEmpty && !name.hasPrefix("/") && !name.utf8.contains(0)
      && !name.split(separator: "/").contains("..")
  }
}
