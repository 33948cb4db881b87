import Foundation
import Testing

/// SmolVLM through the built tool: tiles, limits on them, pruning with text between tiles, chats.
struct SplitCommandTests {
  private static let place = "Tests/Golden/checkpoints/smol-shuffle-4"

  private func image(_ shape: String) -> String {
    Tool.repository.appendingPathComponent("\(Self.place)/\(shape).png").path
  }

  private func visualTokens(_ model: String, _ shape: String, _ options: [String]) throws -> Int {
    let found = Tool.run(
      ["run", model, "--image", image(shape), "What is it?", "--max-tokens", "2", "--json"]
        + options)
    try #require(found.status == 0, "\(found.error)")
    let memory = try #require(found.json["memory"] as? [String: Int])
    #expect(memory["peak_resident_bytes"]! <= memory["planned_peak_bytes"]!)
    let prepared = try #require((found.json["images"] as? [[String: Int]])?.first)
    #expect(prepared["visual_tokens"] == 4 * prepared["tiles"]!)
    // Tiles of 32 pixels, and the one that shows the image whole.
    let area = prepared["resized_width"]! * prepared["resized_height"]!
    #expect(prepared["tiles"] == (area > 32 * 32 ? area / (32 * 32) + 1 : 1))
    return try #require((found.json["counts"] as? [String: Int])?["visual_tokens"])
  }

  /// Four tokens a tile: 4 × 4 tiles and the whole image, 2 × 4, 4 × 1.
  @Test func aLimitOnTokensTakesTheMostTilesThatKeepToIt() throws {
    try Tool.withModel("smol-shuffle-4") { model in
      for (shape, options, count) in [
        ("square", [], 68), ("wide", [], 36), ("tall", [], 20),
        ("square", ["--image-tokens", "checkpoint"], 68), ("square", ["--image-tokens", "67"], 40),
        ("square", ["--image-tokens", "39"], 20), ("square", ["--image-tokens", "4"], 4),
        ("wide", ["--image-tokens", "36"], 36), ("wide", ["--image-tokens", "35"], 28),
        ("tall", ["--image-tokens", "20"], 20), ("square", ["--max-tiles", "9"], 40),
      ] {
        let found = try visualTokens(model, shape, options)
        #expect(found == count, "\(shape) \(options)")
      }
      for (value, words) in [
        ("3", "an image of this model has 4 or more"), ("0", "is invalid"), ("-1", "Missing value"),
        ("all", "is invalid"),
      ] {
        for command in [["run", model, "What?"], ["plan", model], ["bench", model]] {
          let found = Tool.run(command + ["--image-tokens", value])
          #expect(found.status == 64 && found.error.contains(words), "\(found.error)")
        }
      }
      let both = Tool.run(["plan", model, "--image-tokens", "20", "--max-tiles", "2"])
      #expect(both.status == 64 && both.error.contains("cannot be used with"))
      let demo = Tool.run(["plan", Tool.demo, "--image-tokens", "575"])
      #expect(demo.status == 64 && demo.error.contains("576 or more"), "\(demo.error)")
      #expect(Tool.run(["plan", Tool.demo, "--image-tokens", "576"]).status == 0)
    }
  }

  @Test func thePlanCountsTheLimit() throws {
    try Tool.withModel("smol-shuffle-4") { model in
      func buffers(_ options: [String]) throws -> Int {
        let found = Tool.run(["plan", model, "--json"] + options)
        try #require(found.status == 0, "\(found.error)")
        let phases = try #require(found.json["phases"] as? [[String: Any]])
        let parts = try #require(phases[0]["parts"] as? [[String: Any]])
        let buffers = parts.first { $0["name"] as? String == "image buffers" }
        return try #require(buffers?["bytes"] as? Int)
      }
      let (whole, few) = try (buffers([]), buffers(["--image-tokens", "4"]))
      #expect(few < whole)
    }
  }

  @Test func theBudgetCountsTokensOfAllTilesAndNoText() throws {
    try Tool.withModel("smol-shuffle-4") { model in
      for options in [
        ["--visual-tokens", "40"], ["--visual-tokens", "20", "--prune", "visionzip"],
        ["--visual-tokens", "20", "--prune", "visionzip+pio"], ["--schedule", "1:10"],
      ] {
        let found = Tool.run(
          ["run", model, "--image", image("square"), "What is it?", "--max-tokens", "2", "--json"]
            + options)
        try #require(found.status == 0, "\(found.error)")
        let stages = try #require(found.json["pruning"] as? [[String: Any]])
        #expect(stages.first?["before"] as? Int == 68, "\(options)")
      }
      let cls = Tool.run([
        "run", model, "--image", image("square"), "What?", "--visual-tokens", "20", "--prune",
        "visionzip", "--patch-score", "cls",
      ])
      #expect(cls.status == 1 && cls.error.contains("class token"), "\(cls.error)")
    }
  }

  /// A drawing has a panel for the image and two for each stage, whatever the shape of its tiles.
  @Test(arguments: ["smol-shuffle-4", "smol-shuffle-3", "smol-plain-markers"])
  func whatWasKeptCanBeDrawn(_ name: String) throws {
    try Tool.withModel(name) { model in
      let path = Tool.scratch.appendingPathComponent("split-\(UUID().uuidString).png").path
      defer { try? FileManager.default.removeItem(atPath: path) }
      let found = Tool.run([
        "run", model, "--image", image("wide"), "What is it?", "--schedule", "1:4", "--explain",
        path,
      ])
      #expect(found.status == 0, "\(found.error)")
      let drawing = try Data(contentsOf: URL(fileURLWithPath: path))
      #expect(drawing.count > 1000)
    }
  }

  @Test func inspectSaysHowImagesAreCut() throws {
    try Tool.withModel("smol-shuffle-4") { model in
      let found = Tool.run(["inspect", model])
      #expect(found.output.contains("up to 68 visual tokens"), "\(found.output)")
      #expect(found.output.contains("longest edge resized to 128 (lanczos)"))
      #expect(found.output.contains("smolvlm"))
    }
  }
}
