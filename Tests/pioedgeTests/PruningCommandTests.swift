import Foundation
import Testing

struct PruningCommandTests {
  private let run = [
    "run", Tool.demo, "--image", Tool.image("scene-0002-336x336.png"), "What does the text say?",
    "--json",
  ]

  private func stages(_ options: [String]) throws -> [[String: Any]] {
    let result = Tool.run(run + options)
    try #require(result.status == 0, "\(result.error)")
    return try #require(result.json["pruning"] as? [[String: Any]])
  }

  @Test(arguments: [
    "pio", "visionzip", "visionzip+pio", "fastv", "dart", "divprune", "uniform", "random",
  ])
  func everyMethodSaysWhatItKept(_ method: String) throws {
    let result = Tool.run(run + ["--visual-tokens", "200", "--prune", method])
    try #require(result.status == 0, "\(result.error)")
    let average = try #require(
      (result.json["counts"] as? [String: Any])?["visual_tokens_average"] as? Double)
    #expect(average <= 200 && average > 199)
    let stages = try #require(result.json["pruning"] as? [[String: Any]])
    #expect(!stages.isEmpty)
    for stage in stages {
      let place = try #require(stage["stage"] as? String)
      #expect(place == "encoder" ? stage["after_layer"] is NSNull : stage["after_layer"] is Int)
      let kept = try #require(stage["kept"] as? [Int])
      let after = try #require(stage["after"] as? Int)
      let hasClassToken = stage["class_token"] as? Bool == true
      #expect(kept.count == after - (hasClassToken ? 1 : 0))
      #expect(kept == kept.sorted() && Set(kept).count == kept.count)
      #expect(kept.allSatisfy { (0..<576).contains($0) })
      #expect(after < stage["before"] as? Int ?? 0)
      #expect(stage["image"] as? Int == 0)
      #expect(stage["milliseconds"] as? Double ?? -1 >= 0)
      for merge in stage["merged"] as? [[String: Any]] ?? [] {
        #expect(kept.contains(merge["target"] as? Int ?? -1))
        #expect((merge["sources"] as? [Int])?.isEmpty == false)
      }
    }
    #expect(stages.contains { $0["stage"] as? String == "encoder" } == method.hasPrefix("vision"))
  }

  @Test func aPartIsThatPartOfTheTokens() throws {
    // 25 % of 576 is 144.
    let part = try stages(["--visual-tokens", "25%"])
    let count = try stages(["--visual-tokens", "144"])
    #expect(part.map { $0["kept"] as? [Int] } == count.map { $0["kept"] as? [Int] })
    #expect(try stages([]).isEmpty)
    #expect(try stages(["--visual-tokens", "64", "--prune", "none"]).isEmpty)
  }

  @Test(arguments: [["--proxy-block", "next"], ["--proxy-block", "current"]])
  func streamedWeightsPruneAlike(_ options: [String]) throws {
    let all = ["--schedule", "1:200,3:64"] + options
    let kept = try stages(all + ["--stream", "off"]).map { $0["kept"] as? [Int] }
    #expect(try stages(all + ["--stream", "on"]).map { $0["kept"] as? [Int] } == kept)
    #expect(kept.count == 2)
  }

  @Test func thePresetIsWhatItNames() throws {
    let options = ["--schedule", "2:64"]
    let preset = try stages(options + ["--pruning-preset", "published"])
    let spelled = try stages(
      options + ["--positions", "compact", "--nms-threshold", "0.8", "--coverage", "0"])
    let own = try stages(options)
    #expect(preset.map { $0["kept"] as? [Int] } == spelled.map { $0["kept"] as? [Int] })
    #expect(preset.map { $0["kept"] as? [Int] } != own.map { $0["kept"] as? [Int] })
  }

  @Test(arguments: [
    (["--visual-tokens", "0"], "the smallest is 1"),
    (["--visual-tokens", "0%"], "--visual-tokens"), (["--visual-tokens", "x"], "--visual-tokens"),
    (["--visual-tokens", "64", "--prune", "fastv"], "the smallest is 145"),
    (["--visual-tokens", "64", "--schedule", "2:64"], "give one of them"),
    (["--schedule", "2:64", "--prune", "visionzip"], "0:COUNT"),
    (["--schedule", "0:96,2:64", "--prune", "visionzip"], "0:COUNT"),
    (["--nms-threshold", "7"], "--nms-threshold"), (["--prune", "best"], "--prune"),
  ])
  func refusesWhatMakesNoSense(_ options: [String], _ word: String) {
    let result = Tool.run(run + options)
    #expect(result.status != 0)
    #expect(result.error.contains(word), "\(result.error)")
  }

  /// Rows are ranked in chunks, whose size the cap decides: 68 rows leave 4 to a last one.
  @Test func theCapChangesNoSaliency() throws {
    let options = ["--schedule", "2:68,4:32"]
    let plan = Tool.run(["plan", Tool.demo, "--json", "--memory-cap", "1MiB"] + options).json
    let cap = try #require(plan["smallest_cap_bytes"] as? Int) + 100_000
    let tight = Tool.run(["plan", Tool.demo, "--json", "--memory-cap", "\(cap)"] + options).json
    let limits = try #require(tight["limits"] as? [String: Any])
    try #require(limits["prefill_chunk_rows"] as? Int == 64)
    func stages(_ extra: [String]) throws -> [[String: Any]] {
      let file = Tool.scratch.appendingPathComponent("saliency-\(UUID().uuidString).json")
      let result = Tool.run(run + options + ["--dump-saliency", file.path] + extra)
      try #require(result.status == 0, "\(result.error)")
      return try #require(try object(file) as? [[String: Any]])
    }
    let (free, capped) = try (stages([]), stages(["--memory-cap", "\(cap)"]))
    try #require(free.count == 2 && capped.count == 2)
    for (one, other) in zip(free, capped) {
      #expect(one["kept"] as? [Int] == other["kept"] as? [Int])
      let scores = try #require(one["scores"] as? [Double])
      let others = try #require(other["scores"] as? [Double])
      let errors = zip(scores, others).map { abs($0 - $1) / $0 }
      #expect(try #require(errors.max()) <= 1e-6)
    }
  }

  @Test func writesWhatTheStagesSaw() throws {
    let scores = Tool.scratch.appendingPathComponent("saliency.json")
    let drawing = Tool.scratch.appendingPathComponent("explained.png")
    let result = Tool.run(
      run + [
        "--schedule", "1:200,3:64", "--dump-saliency", scores.path, "--explain", drawing.path,
      ])
    try #require(result.status == 0, "\(result.error)")
    let stages = try #require(try object(scores) as? [[String: Any]])
    try #require(stages.count == 2)
    #expect((stages[0]["scores"] as? [Double])?.count == 576)
    #expect((stages[1]["scores"] as? [Double])?.count == 200)
    #expect(stages[1]["candidates"] as? [Int] == stages[0]["kept"] as? [Int])
    #expect((stages[0]["scores"] as? [Double])?.allSatisfy { $0 > 0 } == true)
    // A row of five panels of 336 pixels: the image, then two for each stage.
    let png = try Data(contentsOf: drawing)
    #expect(png.prefix(4) == Data([0x89, 0x50, 0x4e, 0x47]))
    let width = png[16..<20].reduce(0) { $0 << 8 | Int($1) }
    let height = png[20..<24].reduce(0) { $0 << 8 | Int($1) }
    #expect(width == 12 + 5 * (336 + 12) && height == 12 + 36 + 336 + 12)
    let besides = URL(fileURLWithPath: drawing.path + ".json")
    let words = try #require(try object(besides) as? [String: Any])
    #expect(words["method"] as? String == "pio")
    #expect((words["images"] as? [[String: Any]])?.count == 1)
  }

  private func object(_ file: URL) throws -> Any {
    let data = try Data(contentsOf: file)
    return try JSONSerialization.jsonObject(with: data)
  }
}
