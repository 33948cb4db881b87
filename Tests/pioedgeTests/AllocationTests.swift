import Foundation
import Testing

/// From decoded pixels and token ids to the bytes on stdout nothing asks the heap or the kernel for memory, on any
/// thread. Counted by a library that is preloaded into the tool, `Tests/AllocationCounter`, from the second image on:
/// at the first one Swift's runtime makes the metadata of a generic type, once in the life of the process.
struct AllocationTests {
  private static let library = URL(fileURLWithPath: Tool.executable).deletingLastPathComponent()
    .appendingPathComponent("libAllocationCounter.so").path

  private struct Counts {
    let prefill: Int
    let decode: Int
    let writes: Int
    let turns: Int
  }

  private static let question = [
    "run", Tool.demo, "--image", Tool.image("scene-0002-336x336.png"), "--image",
    Tool.image("scene-0014-640x480.png"), "Describe the image.",
  ]

  private func counts(of result: Tool.Result) throws -> Counts {
    let line = try #require(
      result.error.split(separator: "\n").first { $0.contains("allocations:") },
      "\(result.status): \(result.error)")
    let numbers = line.split(separator: " ").compactMap { Int($0) }
    try #require(numbers.count == 4)
    return Counts(
      prefill: numbers[0], decode: numbers[1], writes: numbers[2], turns: numbers[3])
  }

  private func count(_ arguments: [String]) throws -> Counts {
    let result = Tool.run(arguments, environment: ["LD_PRELOAD": Self.library])
    try #require(result.status == 0, "\(result.error)")
    return try counts(of: result)
  }

  @Test(arguments: [
    [], ["--kv", "int8"], ["--kv", "f32"], ["--threads", "1"], ["--threads", "3"],
    ["--schedule", "0:200,2:64"], ["--visual-tokens", "64", "--prune", "random"],
    ["--schedule", "2:64", "--positions", "compact"], ["--temperature", "0.7", "--top-p", "0.9"],
    ["--stream", "on"], ["--stream", "off"], ["--stream", "on", "--kv", "int8"],
    ["--stream", "on", "--kv", "f32", "--threads", "1"],
    ["--stream", "on", "--schedule", "0:200,2:64"],
    ["--visual-tokens", "64", "--proxy-block", "current", "--kv", "int8"],
    ["--visual-tokens", "64", "--prune", "visionzip+pio"],
    ["--visual-tokens", "64", "--prune", "visionzip", "--patch-score", "received"],
    ["--schedule", "2:64", "--prune", "fastv"], ["--schedule", "2:64", "--prune", "dart"],
    ["--schedule", "0:64", "--prune", "divprune"],
  ])
  func prefillAndDecodeAllocateNothing(_ options: [String]) throws {
    let counts = try count(Self.question + options)
    #expect(counts.prefill == 0, "\(options)")
    #expect(counts.decode == 0, "\(options)")
    #expect(counts.writes > 5, "\(options)")
    #expect(counts.turns == 1, "\(options)")
  }

  @Test(
    arguments: ["uniform", "random", "pio", "fastv", "dart", "divprune"], [[], ["--stream", "on"]])
  func pruningAllocatesNothing(_ method: String, _ options: [String]) throws {
    let counts = try count(
      Self.question + ["--prune", method, "--schedule", "0:200,2:64"] + options)
    #expect(counts.prefill == 0 && counts.decode == 0, "\(method) \(options): \(counts)")
    #expect(counts.turns == 1)
  }

  /// Tiles, and a window that slides over them.
  @Test(arguments: [
    [], ["--stream", "on"], ["--schedule", "1:30"], ["--visual-tokens", "40", "--threads", "3"],
    ["--schedule", "1:20", "--positions", "compact", "--kv", "int8"],
    ["--visual-tokens", "40", "--prune", "visionzip"],
  ])
  func tilesAndWindowsAllocateNothing(_ options: [String]) throws {
    let place = "Tests/Golden/checkpoints/next-mistral-window"
    let checkpoint = Tool.repository.appendingPathComponent(place)
    let model = Tool.scratch.appendingPathComponent("counted-\(UUID().uuidString).piom").path
    let made = Tool.run(["convert", checkpoint.path, model, "--weights", "int8"])
    try #require(made.status == 0, "\(made.error)")
    let images = ["square", "flat"].flatMap {
      ["--image", checkpoint.appendingPathComponent("\($0).png").path]
    }
    let counts = try count(
      ["run", model, "What is it?", "--max-tokens", "40"] + images + options)
    #expect(counts.prefill == 0 && counts.decode == 0, "\(options): \(counts)")
    #expect(counts.turns == 1)
  }

  /// Tiles with text between them, and an encoder without a class token.
  @Test(arguments: [
    [], ["--stream", "on"], ["--schedule", "1:30"], ["--visual-tokens", "40", "--threads", "3"],
    ["--image-tokens", "60"], ["--visual-tokens", "20", "--prune", "visionzip"],
    ["--visual-tokens", "30", "--prune", "visionzip+pio", "--kv", "int8"],
  ])
  func splitImagesAllocateNothing(_ options: [String]) throws {
    try countImages("smol-shuffle-4", ["square", "wide"], options)
  }

  /// Images at their own shape, rows at three positions, windows in the tower.
  @Test(
    arguments: ["qwen2-flat", "qwen25-windows", "qwen3-deepstack"],
    [
      [], ["--stream", "on"], ["--schedule", "1:10", "--threads", "3"],
      ["--visual-tokens", "9", "--kv", "int8"], ["--image-tokens", "20"],
      ["--prune", "visionzip", "--visual-tokens", "9"],
      ["--prune", "windowzip+pio", "--visual-tokens", "9", "--threads", "2"],
    ])
  func imagesAtTheirOwnShapeAllocateNothing(_ name: String, _ options: [String]) throws {
    try countImages(name, ["square", "tall"], options)
  }

  private func countImages(
    _ name: String, _ shapes: [String], _ options: [String]
  ) throws {
    let checkpoint = Tool.repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)")
    let model = Tool.scratch.appendingPathComponent("counted-\(UUID().uuidString).piom").path
    let made = Tool.run(["convert", checkpoint.path, model, "--weights", "int8"])
    try #require(made.status == 0, "\(made.error)")
    let images = shapes.flatMap {
      ["--image", checkpoint.appendingPathComponent("\($0).png").path]
    }
    let counts = try count(
      ["run", model, "What is it?", "--max-tokens", "40"] + images + options)
    #expect(counts.prefill == 0 && counts.decode == 0, "\(options): \(counts)")
    #expect(counts.turns == 1)
  }

  @Test(arguments: [[], ["--kv", "int8"], ["--schedule", "1:100,4:20"]])
  func aCapBetweenAllocatesNothing(_ options: [String]) throws {
    let small = ["--context", "64", "--codec-memory", "1MiB", "--max-image-pixels", "1000000"]
    let limits = small + options
    let needs = ["plan", Tool.demo, "--images", "2", "--json"] + limits
    let smallest = try #require(Tool.run(needs).json["smallest_cap_bytes"] as? Int)
    let plan = Tool.run(needs + ["--memory-cap", "\(smallest + 1_500_000)"]).json
    // Some layers stay, the others stream.
    #expect(plan["resident_weight_bytes"] as? Int ?? 0 > 0, "\(plan)")
    #expect(plan["streamed_bytes_per_token"] as? Int ?? 0 > 0, "\(plan)")
    // The preloaded library counts among what the process has: the smallest cap is what the run itself says. How much
    // of its code the kernel maps differs from run to run: one that is a step above the last says so, and is asked again.
    let run = Self.question + ["--max-tokens", "30"] + limits
    var cap = 1 << 20
    var result = Tool.Result(status: -1, output: "", error: "")
    for _ in 0..<4 where result.status != 0 {
      result = Tool.run(
        run + ["--memory-cap", "\(cap)"], environment: ["LD_PRELOAD": Self.library])
      guard result.status != 0 else { break }
      let words = result.error.split(separator: " ")
      let place = try #require(words.firstIndex(of: "bytes"), "\(result.status): \(result.error)")
      cap = try #require(Int(words[place - 1]), "\(result.error)") + 1_500_000
    }
    try #require(result.status == 0 && cap > 1 << 20, "\(result.error)")
    let counts = try counts(of: result)
    #expect(counts.prefill == 0 && counts.decode == 0, "\(options): \(counts)")
    #expect(counts.writes > 5, "\(options)")
  }

  @Test(arguments: [
    [], ["--stream", "on"], ["--kv", "int8", "--stream", "on"], ["--kv", "f32"],
    ["--schedule", "0:200,2:64"], ["--stream", "on", "--visual-tokens", "64"],
  ])
  func theTurnsOfAChatAllocateNothing(_ options: [String]) throws {
    let images = ["scene-0002-336x336.png", "scene-0014-640x480.png"].map(Tool.image)
    let result = try Tool.chat(
      ["--images", "3", "--image", images[0], "--image", images[1]] + options,
      [
        "Describe the image.", "How many circles are there?", "/image \(images[0])",
        "Describe the image.",
      ], environment: ["LD_PRELOAD": Self.library])
    let counts = try counts(of: result)
    #expect(counts.turns == 3, "\(result.output)")
    #expect(counts.prefill == 0 && counts.decode == 0, "\(options): \(counts)")
  }

  @Test func theCounterCounts() throws {
    // Keeping the logits for the diagnostic file is an array between the image and the first text.
    let path = Tool.scratch.appendingPathComponent("counted-logits.bin").path
    let counts = try count(Self.question + ["--dump-logits", path])
    #expect(counts.prefill > 0)
    let chat = try Tool.chat(
      ["--dump-logits", path], ["Describe the image.", "Where is it?"],
      environment: ["LD_PRELOAD": Self.library])
    let turns = try self.counts(of: chat)
    #expect(turns.turns == 2 && turns.prefill >= 2, "\(turns)")
  }
}
