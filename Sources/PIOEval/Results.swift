import PIORuntime

/// What an evaluation found, as `results.json` has it. Shares are from 0 to 1.
public struct Results: Sendable, Encodable {
  public struct Family: Sendable, Encodable {
    public let name: String
    public let questions: Int
    public let accuracy: Double
    /// Accuracy relative to the unpruned model's; nil where that is 0.
    public let retained: Double?
  }

  /// Of yes-or-no questions: POPE's figures, `yes` being the positive class.
  public struct YesNo: Sendable, Encodable {
    public let questions: Int
    public let precision: Double
    public let recall: Double
    public let f1: Double
    public let yesShare: Double
  }

  /// What one setting came to.
  public struct Row: Sendable, Encodable {
    public let method: String
    /// `LAYER:COUNT` for each cut, 0 being the encoder's output.
    public let schedule: String
    /// Visual tokens that a layer sees, on average and at most.
    public let averageTokens: Double
    public let peakTokens: Int
    public let accuracy: Double
    public let retained: Double?
    /// Answers that are those of the unpruned model.
    public let agreement: Double
    /// The family that lost most.
    public let lowestFamilyRetained: Double?
    /// Median over the questions.
    public let prefillMs: Double
    public let families: [Family]
    public let yesNo: YesNo?
    /// The first method of the table less this one; nil for itself.
    public let reference: Interval?
    /// What the first method does to this one.
    public let verdict: Verdict?
  }

  public struct Cell: Sendable, Encodable {
    public let method: String
    /// Nil where the method cannot reach the budget.
    public let row: Row?
    public let problem: String?
  }

  public struct Table: Sendable, Encodable {
    /// `average`, `peak` or `schedule`.
    public let kind: String
    public let budget: String
    public let title: String
    public let cells: [Cell]
  }

  public let questions: Int
  public let images: Int
  public let families: [String]
  public let unpruned: Row
  public let controls: [Row]
  public let tables: [Table]

  /// - Parameter answers: for each setting, the answer to each question.
  public init(_ evaluation: Evaluation, _ answers: [[Answer]]) {
    let measured = Measured(evaluation, answers)
    let comparison = evaluation.comparison
    questions = evaluation.questions.questions.count
    images = evaluation.questions.images.count
    families = evaluation.questions.families
    unpruned = measured.row("none", 0)
    controls = comparison.controls.map { measured.row($0.name, $0.setting) }
    tables = comparison.sections.map { section in
      let reference = section.cells.first?.setting
      return Table(
        kind: section.budget.kind, budget: section.budget.text, title: section.budget.title,
        cells: section.cells.map { cell in
          Cell(
            method: cell.variant.name,
            row: cell.setting.map {
              measured.row(cell.variant.name, $0, against: $0 == reference ? nil : reference)
            }, problem: cell.problem)
        })
    }
  }
}

extension Comparison.Budget {
  public var kind: String {
    switch self {
    case .average: "average"
    case .peak: "peak"
    case .stages: "schedule"
    }
  }

  var text: String {
    switch self {
    case .average(let count), .peak(let count): String(count)
    case .stages(let stages): scheduleText(stages)
    }
  }
}

/// Scores of all answers, each computed once.
private struct Measured {
  let evaluation: Evaluation
  let answers: [[Answer]]
  /// For each setting those of each question.
  let scores: [[Double]]
  let forms: [[String]]
  /// For each question its family's index.
  let families: [Int]

  init(_ evaluation: Evaluation, _ answers: [[Answer]]) {
    self.evaluation = evaluation
    self.answers = answers
    let questions = evaluation.questions.questions
    scores = answers.map { zip(questions, $0).map { $0.score($1.text) } }
    forms = answers.map { $0.map { exactForm($0.text) } }
    let names = evaluation.questions.families
    let places = Dictionary(uniqueKeysWithValues: zip(names, names.indices))
    families = questions.map { places[$0.family]! }
  }

  func row(_ name: String, _ index: Int, against reference: Int? = nil) -> Results.Row {
    let setting = evaluation.comparison.settings[index]
    let count = Double(scores[index].count)
    let accuracy = scores[index].reduce(0, +) / count
    let whole = scores[0].reduce(0, +) / count
    let same = zip(forms[index], forms[0]).reduce(0) { $0 + ($1.0 == $1.1 ? 1 : 0) }
    let families = familyRows(index)
    let interval = reference.map {
      pairedBootstrap(zip(scores[$0], scores[index]).map { $0 - $1 })
    }
    return Results.Row(
      method: name, schedule: scheduleText(setting.stages), averageTokens: setting.average,
      peakTokens: setting.peak, accuracy: accuracy, retained: whole > 0 ? accuracy / whole : nil,
      agreement: Double(same) / count,
      lowestFamilyRetained: families.compactMap(\.retained).min(),
      prefillMs: median(answers[index].map(\.prefillMilliseconds)), families: families,
      yesNo: yesNo(index), reference: interval, verdict: interval.map(Verdict.init))
  }

  private func familyRows(_ index: Int) -> [Results.Family] {
    let names = evaluation.questions.families
    var counts = [Int](repeating: 0, count: names.count)
    var sums = [Double](repeating: 0, count: names.count)
    var wholes = sums
    for (question, family) in families.enumerated() {
      counts[family] += 1
      sums[family] += scores[index][question]
      wholes[family] += scores[0][question]
    }
    return names.indices.map {
      Results.Family(
        name: names[$0], questions: counts[$0], accuracy: sums[$0] / Double(counts[$0]),
        retained: wholes[$0] > 0 ? sums[$0] / wholes[$0] : nil)
    }
  }

  private func yesNo(_ index: Int) -> Results.YesNo? {
    var (both, said, true_, count) = (0.0, 0.0, 0.0, 0)
    for (question, answer) in zip(evaluation.questions.questions, answers[index]) {
      guard case .yesOrNo(let right) = question.truth else { continue }
      let yes = saysYes(answer.text)
      count += 1
      said += yes ? 1 : 0
      true_ += right ? 1 : 0
      both += yes && right ? 1 : 0
    }
    guard count > 0 else { return nil }
    return Results.YesNo(
      questions: count, precision: said > 0 ? both / said : 0, recall: true_ > 0 ? both / true_ : 0,
      f1: said + true_ > 0 ? 2 * both / (said + true_) : 0, yesShare: said / Double(count))
  }
}

func median(_ values: [Double]) -> Double {
  guard !values.isEmpty else { return 0 }
  let sorted = values.sorted()
  let middle = sorted.count / 2
  return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
