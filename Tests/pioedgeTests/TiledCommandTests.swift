import Foundation
import Testing

/// LLaVA-NeXT through the built tool: tiles, pruning over all of them, images that are hostile.
struct TiledCommandTests {
  private static let place = "Tests/Golden/checkpoints/next-vicuna"

  private func converted() throws -> String {
    let path = Tool.scratch.appendingPathComponent("tiled-\(UUID().uuidString).piom").path
    let source = Tool.repository.appendingPathComponent(Self.place).path
    let made = Tool.run(["convert", source, path, "--weights", "int8"])
    try #require(made.status == 0, "\(made.error)")
    return path
  }

  private func image(_ shape: String) -> String {
    Tool.repository.appendingPathComponent("\(Self.place)/\(shape).png").path
  }

  @Test func anImageTakesTheRowsOfItsShape() throws {
    let model = try converted()
    defer { try? FileManager.default.removeItem(atPath: model) }
    var counts: [String: Int] = [:]
    for shape in ["square", "wide", "tall", "flat"] {
      let found = Tool.run([
        "run", model, "--image", image(shape), "What is it?", "--max-tokens", "2", "--json",
      ])
      try #require(found.status == 0, "\(found.error)")
      counts[shape] = (found.json["counts"] as? [String: Double])?["visual_tokens"].map { Int($0) }
    }
    // 16 of the whole image and 8 lines of 8; 8 columns of 4 lines; columns and lines that narrow images leave.
    #expect(counts["square"] == 80)
    #expect(Set(counts.values).count >= 3 && counts.values.allSatisfy { (16...80).contains($0) })
    let all = Tool.run(["inspect", model])
    #expect(all.output.contains("up to 80 visual tokens") && all.output.contains("64x64"))
  }

  @Test func theCapHoldsWithTilesAndTheBudgetCountsThemAll() throws {
    let model = try converted()
    defer { try? FileManager.default.removeItem(atPath: model) }
    let found = Tool.run([
      "run", model, "--image", image("square"), "What is it?", "--max-tokens", "2",
      "--visual-tokens", "40", "--json",
    ])
    try #require(found.status == 0, "\(found.error)")
    let stages = try #require(found.json["pruning"] as? [[String: Any]])
    #expect(stages.first?["before"] as? Int == 80)
    let memory = try #require(found.json["memory"] as? [String: Int])
    #expect(memory["peak_resident_bytes"]! <= memory["planned_peak_bytes"]!)
  }

  @Test func hostileImagesAreRefusedInOneLine() throws {
    let model = try converted()
    defer { try? FileManager.default.removeItem(atPath: model) }
    let images = Tool.repository.appendingPathComponent("Tests/Golden/images")
    for file in ["cases.json", "nothing.png"] {
      let found = Tool.run([
        "run", model, "--image", images.appendingPathComponent(file).path, "What?",
      ])
      #expect(found.status == 1 && found.error.split(separator: "\n").count == 1, "\(found.error)")
    }
    let large = Tool.run([
      "run", model, "--image", image("square"), "What?", "--max-image-pixels", "100",
    ])
    #expect(large.status == 1 && large.error.contains("--max-image-pixels"))
    let fit = Tool.run(["run", model, "--image", image("square"), "What?", "--fit", "pad"])
    #expect(fit.status == 1 && fit.error.contains("tiles"))
  }

  /// `--max-tiles 2` is a checkpoint without the larger resolutions: the same rows, logits and memory.
  @Test func fewerTilesAreThoseOfACheckpointWithoutTheOthers() throws {
    let model = try converted()
    let folder = Tool.scratch.appendingPathComponent("few-tiles-\(UUID().uuidString)")
    let few = folder.path + ".piom"
    defer {
      for path in [model, few, folder.path] { try? FileManager.default.removeItem(atPath: path) }
    }
    try FileManager.default.copyItem(
      at: Tool.repository.appendingPathComponent(Self.place), to: folder)
    for (name, key) in [("config.json", nil), ("processor_config.json", "image_processor")] {
      let url = folder.appendingPathComponent(name)
      var object = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
      let inner = key.flatMap { object[$0] as? [String: Any] }
      var part = inner ?? object
      let all = try #require(part["image_grid_pinpoints"] as? [[Int]])
      part["image_grid_pinpoints"] = all.filter { $0[0] * $0[1] <= 2 * 32 * 32 }
      if let key { object[key] = part } else { object = part }
      try JSONSerialization.data(withJSONObject: object).write(to: url)
    }
    let made = Tool.run(["convert", folder.path, few, "--weights", "int8"])
    try #require(made.status == 0, "\(made.error)")
    for shape in ["square", "wide", "tall", "flat"] {
      func answer(_ model: String, _ extra: [String]) throws -> (NSDictionary, [String: Double]) {
        let found = Tool.run(
          [
            "run", model, "--image", image(shape), "What is it?", "--max-tokens", "12", "--json",
            "--context", "64",
          ] + extra)
        try #require(found.status == 0, "\(found.error)")
        let kept = found.json.filter { ["tokens", "answer", "counts"].contains($0.key) }
        let memory = try #require(found.json["memory"] as? [String: Double])
        return (kept as NSDictionary, memory)
      }
      let (mine, theirs) = try (answer(model, ["--max-tiles", "2"]), answer(few, []))
      #expect(mine.0 == theirs.0, "\(shape)")
      #expect(mine.1["working_bytes"] == theirs.1["working_bytes"])
      #expect(mine.1["kv_bytes"] == theirs.1["kv_bytes"])
      let whole = try answer(model, [])
      #expect(mine.1["kv_bytes"]! < whole.1["kv_bytes"]!)
    }
    // Of two resolutions of as many tiles the upright one gives more rows: 16 of the whole image and 8 lines of 5.
    let bench = Tool.run([
      "bench", model, "--image", "-p", "8", "-n", "2", "-r", "1", "--max-tiles", "2", "--json",
    ])
    let first = try #require(bench.json["first_token"] as? [String: Any], "\(bench.error)")
    #expect(first["rows"] as? Int == 64 + 16 + 8 * 5)
    let tight = Tool.run(["plan", model, "--memory-cap", "24MiB"])
    #expect(tight.status == 1 && tight.error.contains("--image-tokens 48"), "\(tight.error)")
    for (path, count, words) in [
      (model, "1", "has 2 tiles or more"), (Tool.demo, "2", "does not cut images"),
      (model, "0", "1 to 65536"),
    ] {
      for command in [["run", path, "What?"], ["plan", path], ["bench", path]] {
        let found = Tool.run(command + ["--max-tiles", count])
        #expect(found.status == 64 && found.error.contains(words), "\(found.error)")
      }
    }
  }

  /// Each tile hands over its part in an evaluation as in `run`.
  @Test(arguments: ["pio", "visionzip", "visionzip+pio"])
  func anEvaluationAnswersAsRunDoes(_ method: String) throws {
    let model = try converted()
    let folder = Tool.scratch.appendingPathComponent("tiled-eval-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    defer {
      try? FileManager.default.removeItem(atPath: model)
      try? FileManager.default.removeItem(at: folder)
    }
    let shapes = ["square", "wide", "tall"]
    let lines = shapes.map {
      "{\"image\": \"\($0).png\", \"question\": \"What is it?\", \"answer\": \"x\"}\n"
    }
    let questions = folder.appendingPathComponent("questions.jsonl")
    try Data(lines.joined().utf8).write(to: questions)
    let options = [
      "--visual-tokens", "12", "--prune", method, "--max-tokens", "12", "--threads", "1",
    ]
    let images = Tool.repository.appendingPathComponent(Self.place).path
    let made = Tool.run(
      ["eval", model, "--questions", questions.path, "--images", images, "--report", folder.path]
        + options)
    try #require(made.status == 0, "\(made.error)")
    let log = try String(
      contentsOf: folder.appendingPathComponent("answers.jsonl"), encoding: .utf8)
    var found = log.split(separator: "\n").compactMap {
      (try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])?["answer"]
        as? String
    }
    for shape in shapes {
      for extra in [[], options[..<4]] {
        let ran = Tool.run(
          ["run", model, "--image", image(shape), "What is it?", "--json"] + extra
            + options[4...])
        try #require(ran.status == 0, "\(ran.error)")
        let answer = (ran.json["answer"] as? String ?? "-").trimmingCharacters(in: .whitespaces)
        let place = try #require(found.firstIndex(of: answer), "\(shape) \(extra): \(answer)")
        found.remove(at: place)
      }
    }
  }
}
