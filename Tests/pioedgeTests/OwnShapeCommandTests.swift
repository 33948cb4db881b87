import Foundation
import Testing

/// Qwen2-VL and Qwen2.5-VL through the built tool: images at their own shape.
struct OwnShapeCommandTests {
  private func image(_ name: String, _ shape: String) -> String {
    Tool.repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)/\(shape).png").path
  }

  private func run(_ words: [String]) throws -> [String: Any] {
    let found = Tool.run(words + ["--max-tokens", "3", "--json"])
    try #require(found.status == 0, "\(found.error)")
    let memory = try #require(found.json["memory"] as? [String: Int])
    #expect(memory["peak_resident_bytes"]! <= memory["planned_peak_bytes"]!)
    return found.json
  }

  /// What an image is resized to decides its tokens, of 16 or 12 pixels a side, and is said.
  @Test(arguments: ["qwen2-flat", "qwen25-windows", "qwen3-deepstack"])
  func aLimitOnTokensMakesAnImageSmaller(_ name: String) throws {
    try Tool.withModel(name) { model in
      let side = name == "qwen2-flat" ? 16 : 12
      for (limit, options) in [(1280, []), (12, ["--image-tokens", "12"])] as [(Int, [String])] {
        let json = try run(["run", model, "--image", image(name, "square"), "What?"] + options)
        let prepared = try #require((json["images"] as? [[String: Int]])?.first)
        let area = prepared["resized_width"]! * prepared["resized_height"]!
        #expect(prepared["visual_tokens"] == area / (side * side))
        #expect(prepared["visual_tokens"]! <= limit && prepared["visual_tokens"]! >= 9)
      }
      let few = Tool.run(["plan", model, "--image-tokens", "3"])
      #expect(few.status == 64 && few.error.contains("has 4 or more"), "\(few.error)")
      let tiles = Tool.run(["plan", model, "--max-tiles", "2"])
      #expect(tiles.status == 64 && tiles.error.contains("does not cut"), "\(tiles.error)")
    }
  }

  @Test func whatTheFamilyCannotDoIsRefused() throws {
    let name = "qwen25-windows"
    try Tool.withModel(name) { model in
      for (options, words) in [
        (
          ["--prune", "visionzip", "--patch-score", "cls", "--visual-tokens", "9"],
          "works only with vision encoders that have a class token"
        ),
        (["--positions", "compact", "--visual-tokens", "9"], "use original"),
        (["--fit", "pad"], "--fit works only"),
      ] {
        let found = Tool.run(
          ["run", model, "--image", image(name, "square"), "What?"] + options)
        #expect(found.status == 1 && found.error.contains(words), "\(found.error)")
        #expect(found.error.split(separator: "\n").count == 1)
      }
    }
  }

  @Test(arguments: ["qwen2-flat", "qwen25-windows", "qwen3-deepstack"])
  func whatWasKeptCanBeDrawn(_ name: String) throws {
    try Tool.withModel(name) { model in
      let path = Tool.scratch.appendingPathComponent("own-\(UUID().uuidString).png").path
      defer { try? FileManager.default.removeItem(atPath: path) }
      let found = Tool.run([
        "run", model, "--image", image(name, "wide"), "What is it?", "--schedule", "1:9",
        "--explain", path,
      ])
      #expect(found.status == 0, "\(found.error)")
      let drawing = try? Data(contentsOf: URL(fileURLWithPath: path))
      #expect(drawing?.count ?? 0 > 1000)
    }
  }
}
