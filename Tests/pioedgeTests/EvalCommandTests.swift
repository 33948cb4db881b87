import Foundation
import Testing

/// `pioedge eval --questions`, with the demo.
struct EvalCommandTests {
  private static let images = Tool.repository.appendingPathComponent("tools/demo/images").path
  private static let questions = Tool.repository.appendingPathComponent(
    "tools/demo/questions.jsonl"
  ).path

  private func folder() -> URL {
    Tool.scratch.appendingPathComponent("eval-\(UUID().uuidString)")
  }

  private func evaluate(_ report: URL, _ more: [String]) -> Tool.Result {
    Tool.run(
      [
        "eval", Tool.demo, "--questions", Self.questions, "--images", Self.images, "--report",
        report.path, "--threads", "1", "--max-tokens", "64",
      ] + more)
  }

  private func lines(_ url: URL) throws -> [String] {
    try String(contentsOf: url, encoding: .utf8).split(separator: "\n").map(String.init)
  }

  private func table(_ report: URL) throws -> [[String: Any]] {
    let data = try Data(contentsOf: report.appendingPathComponent("results.json"))
    let object = try JSONSerialization.jsonObject(with: data) as? [String: Any]
    return try #require(object?["tables"] as? [[String: Any]])
  }

  /// What was found, what took time aside.
  private func timeless(_ report: URL) throws -> NSDictionary {
    func without(_ value: Any) -> Any {
      if let list = value as? [Any] { return list.map(without) }
      guard let object = value as? [String: Any] else { return value }
      return object.filter { $0.key != "prefill_ms" }.mapValues(without)
    }
    let data = try Data(contentsOf: report.appendingPathComponent("results.json"))
    let found = without(try JSONSerialization.jsonObject(with: data)) as? NSDictionary
    return try #require(found)
  }

  private static let options = [
    "--limit", "20", "--visual-tokens", "none,128", "--schedule", "2:64", "--prune",
    "pio,fastv,visionzip,random", "--controls",
  ]

  @Test func goesOnWhereItWasKilledAndFindsTheSame() throws {
    let whole = folder()
    let first = evaluate(whole, Self.options + ["--json"])
    try #require(first.status == 0, "\(first.error)")
    let answers = whole.appendingPathComponent("answers.jsonl")
    let all = try lines(answers)
    // Unpruned, two controls, average 128: pio, visionzip, random; one cut: pio, fastv, random.
    // A question that two images share is asked once about a grey one.
    let texts = try lines(URL(fileURLWithPath: Self.questions))[..<20].map {
      (try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: String])?["question"]
    }
    #expect(all.count == 20 * 8 + Set(texts).count)

    let killed = folder()
    try FileManager.default.createDirectory(at: killed, withIntermediateDirectories: true)
    let rest = killed.appendingPathComponent("answers.jsonl")
    let torn = all[..<77].joined(separator: "\n") + "\n" + all[77].prefix(30)
    try Data(torn.utf8).write(to: rest)
    let second = evaluate(killed, Self.options)
    try #require(second.status == 0, "\(second.error)")
    let found = try lines(rest)
    #expect(Array(found[..<77]) == Array(all[..<77]))
    #expect(found.count == all.count)
    #expect(try timeless(killed) == timeless(whole))

    // Nothing is left to ask; another model would find nothing here.
    let before = try Data(contentsOf: rest)
    #expect(evaluate(killed, Self.options).status == 0)
    #expect(try Data(contentsOf: rest) == before)
    #expect(evaluate(killed, ["--limit", "1", "--kv", "int8"]).status == 0)
    #expect(try lines(rest).count == all.count + 1)
  }

  /// The answers are those of `run`, which encodes the image each time.
  @Test func answersAsRunDoes() throws {
    let report = folder()
    let result = evaluate(report, ["--limit", "12", "--schedule", "2:64", "--prune", "pio"])
    try #require(result.status == 0, "\(result.error)")
    let asked = try lines(URL(fileURLWithPath: Self.questions))[..<12].map {
      try #require(
        JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: String])
    }
    let input = asked.map {
      "{\"image\": \"\(Self.images)/\($0["image"]!)\", \"prompt\": \"\($0["question"]!)\"}\n"
    }.joined()
    func run(_ options: [String]) -> [String] {
      let output = Tool.run(
        ["run", Tool.demo, "--jsonl", "--max-tokens", "64", "--threads", "1"] + options,
        input: input
      ).output
      return output.split(separator: "\n").map {
        let object = try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any]
        return (object?["answer"] as? String ?? "-").trimmingCharacters(in: .whitespaces)
      }
    }
    var given: [String: [String]] = [:]
    for line in try lines(report.appendingPathComponent("answers.jsonl")) {
      let object = try #require(
        JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
      given[object["setting"] as! String, default: []].append(object["answer"] as! String)
    }
    let (whole, pruned) = (run([]), run(["--schedule", "2:64"]))
    #expect(whole.count == 12 && whole != pruned)
    #expect(Set(given.values) == [whole, pruned])
  }

  @Test func reportsWhatAMethodCannotReachAndHowRightTheOthersAre() throws {
    let report = folder()
    let result = evaluate(
      report, ["--limit", "10", "--visual-tokens", "64", "--prune", "uniform,fastv"])
    try #require(result.status == 0, "\(result.error)")
    let cells = try #require(try table(report)[0]["cells"] as? [[String: Any]])
    #expect(cells[1]["row"] == nil)
    #expect((cells[1]["problem"] as? String)?.contains("smallest is 145") == true)
    let row = try #require(cells[0]["row"] as? [String: Any])
    #expect(row["average_tokens"] as? Double == 64)
    let text = try lines(report.appendingPathComponent("report.md")).joined(separator: "\n")
    #expect(text.contains("| fastv | n/a: a budget of 64 visual tokens is too small"))
    #expect(result.output.contains("n/a") && result.output.contains("10 questions"))
  }

  @Test(arguments: [
    (["--questions", "q"], "--images"), (["--images", "d"], "--questions or --text"),
    (["--questions", "q", "--images", "d", "--prune", "best"], "'best'"),
    (["--questions", "q", "--images", "d", "--visual-tokens", "0"], "whole numbers from 1"),
    (["--questions", "q", "--images", "d", "--window", "9"], "--window"),
    (["--text", "t", "--limit", "9"], "--text takes"),
  ])
  func refusesWhatMakesNoSense(_ options: [String], _ words: String) {
    let result = Tool.run(["eval", Tool.demo] + options)
    #expect(result.status == 64 && result.error.contains(words), "\(result.error)")
  }

  @Test func anImageThatIsNotThereIsOneLine() throws {
    let questions = Tool.scratch.appendingPathComponent("\(UUID().uuidString).jsonl")
    try Data(#"{"image": "no.png", "question": "Q?", "answer": "a"}"#.utf8).write(to: questions)
    let result = Tool.run(
      ["eval", Tool.demo, "--questions", questions.path, "--images", Self.images])
    #expect(result.status == 1 && result.error.contains("no.png"))
    #expect(result.error.split(separator: "\n").count == 1)
  }
}
