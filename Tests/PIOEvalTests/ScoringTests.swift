import PIOEval
import Testing

struct ScoringTests {
  private func score(_ truth: Question.Truth, _ answer: String) -> Double {
    Question(image: "a", text: "Q", family: "f", truth: truth).score(answer)
  }

  @Test(arguments: [
    ("Top  left.", "top left", 1.0), ("top", "top left", 0), ("GAIC", "gaic", 1),
    ("a red square", "red square", 0), ("", "no", 0), ("3", "3.", 1),
  ])
  func exactMatchIgnoresCaseSpaceAndTheFullStop(_ answer: String, _ right: String, _ want: Double) {
    #expect(score(.answer(right), answer) == want)
  }

  /// By hand from the rule: with m of 10 people, m of the subsets of nine have m - 1 of them.
  @Test(arguments: [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (10, 1.0)])
  func givesTheVQAScoreOfTenPeople(_ matches: Int, _ want: Double) {
    let answers =
      [String](repeating: "dog", count: matches)
      + (matches..<10).map { "other \($0)" }
    #expect(abs(score(.answers(answers), "dog") - want) < 1e-12)
  }

  @Test func takesFewAnswersAsOtherWaysToSayIt() {
    #expect(score(.answers(["12 May", "May 12"]), "may 12") == 1)
    #expect(score(.answers(["12 May", "May 12"]), "may") == 0)
    #expect(score(.answers(["cat"]), "cat") == 1)
  }

  @Test(arguments: [
    ("The two dogs", "2 dogs"), ("Don't", "dont"), ("yes, sir", "yes sir"), ("1,000", "1000"),
    ("red/blue", "red blue"), ("st. john", "st john"), ("3.5", "3.5"), ("none", "0"),
    ("a\nb", "b"), ("stop!", "stop"),
  ])
  func comparesVQAAnswersWithoutArticlesMarksAndNumberWords(_ a: String, _ b: String) {
    #expect(score(.answers([a]), b) == 1)
    #expect(score(.answers([b]), a) == 1)
  }

  @Test(arguments: [
    ("Yes", true), ("no", false), ("No, there is none.", false), ("There is a dog.", true),
    ("It is not there", false), ("Yes. No dog is seen", true), ("Nothing", true), ("", true),
  ])
  func readsYesOrNoAsPOPEIsEvaluated(_ answer: String, _ yes: Bool) {
    #expect(score(.yesOrNo(yes), answer) == 1)
    #expect(score(.yesOrNo(!yes), answer) == 0)
  }
}

struct BootstrapTests {
  @Test func givesTheNormalIntervalOfManyDifferences() {
    // 30 % of +1, 20 % of -1: the mean is 0.1, its deviation sqrt(0.5 - 0.01) / sqrt(n).
    let differences = (0..<4000).map { $0 % 10 < 3 ? 1.0 : $0 % 10 < 5 ? -1.0 : 0.0 }
    let interval = pairedBootstrap(differences)
    let half = 1.96 * (0.49 / 4000).squareRoot()
    #expect(abs(interval.mean - 0.1) < 1e-12)
    #expect(abs(interval.low - (0.1 - half)) < 0.002 && abs(interval.high - (0.1 + half)) < 0.002)
    #expect(interval == pairedBootstrap(differences))
  }

  @Test func hasNoWidthWhereAllDifferencesAreEqual() {
    #expect(pairedBootstrap([0.5, 0.5, 0.5]) == Interval(mean: 0.5, low: 0.5, high: 0.5))
    #expect(pairedBootstrap([]) == Interval(mean: 0, low: 0, high: 0))
  }
}
