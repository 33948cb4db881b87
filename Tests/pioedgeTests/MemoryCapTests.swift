import Foundation
import Testing

/// The cap holds for the whole process: measured by the kernel, with warm caches and plenty of memory around.
struct MemoryCapTests {
  private static let image = Tool.image("scene-0002-336x336.png")

  /// Tight limits, so that the plan is about the model.
  private static let limits = [
    "--context", "96", "--max-tokens", "40", "--max-image-pixels", "112896",
    "--codec-memory", "1MiB",
  ]

  private static func run(_ options: [String]) -> Tool.Result {
    Tool.run(["run", Tool.demo, "--image", image, "Describe the image.", "--json"] + options)
  }

  private func plan(_ options: [String]) throws -> (smallest: Int, peak: Int) {
    let json = Tool.run(["plan", Tool.demo, "--json"] + options).json
    return (
      try #require(json["smallest_cap_bytes"] as? Int), try #require(json["peak_bytes"] as? Int)
    )
  }

  private func peak(_ result: Tool.Result) throws -> Int {
    let memory = try #require(result.json["memory"] as? [String: Any], "\(result.error)")
    return try #require(memory["peak_resident_bytes"] as? Int)
  }

  /// By how much a run stayed below what it had planned for.
  private func slack(_ result: Tool.Result) throws -> Int {
    let memory = try #require(result.json["memory"] as? [String: Any], "\(result.error)")
    return try #require(memory["planned_peak_bytes"] as? Int) - peak(result)
  }

  /// 4 MiB or 5 % of the plan, and the 2 MiB by which the code that the kernel maps at once differs between runs.
  private func allowedSlack(_ planned: Int) -> Int { max(4 << 20, planned / 20) + (2 << 20) }

  @Test func holdsWithoutAControlGroup() throws {
    let (smallest, _) = try plan(Self.limits)
    let size = try #require(
      FileManager.default.attributesOfItem(atPath: Tool.demo)[.size] as? Int)
    let free = Self.run(Self.limits + ["--stream", "off"])
    let full = try peak(free)
    var exceeded = 0
    for eighth in [0, 1, 2, 8] {
      let cap = smallest + size * eighth / 8
      let capped = Self.run(Self.limits + ["--memory-cap", "\(cap)"])
      #expect(try peak(capped) <= cap, "cap \(cap)")
      #expect(capped.json["tokens"] as? [Int] == free.json["tokens"] as? [Int])
      if cap < full { exceeded += 1 }
    }
    // Mapped plainly the same run takes more than the smallest caps: they were not idle.
    #expect(exceeded >= 2, "\(full) bytes from \(smallest)")
  }

  @Test func theSmallestCapWorksAtTheLimits() throws {
    // A prompt that fills the context but for the answer.
    let limits = [
      "--context", "400", "--max-tokens", "8", "--max-image-pixels", "112896",
      "--codec-memory", "1MiB",
    ]
    let smallest = try plan(limits).smallest
    let prompt = "USER: <image>\n" + String(repeating: "a red circle ", count: 122) + "ASSISTANT:"
    let arguments = ["run", Tool.demo, "--raw", "--image", Self.image, prompt, "--json"] + limits
    let free = Tool.run(arguments)
    let capped = Tool.run(arguments + ["--memory-cap", "\(smallest)"])
    #expect(try peak(capped) <= smallest)
    let counts = try #require(capped.json["counts"] as? [String: Any])
    let rows = try #require(counts["prompt_tokens"] as? Int)
    #expect(rows > 576 + 370, "the prompt does not fill the context: \(rows)")
    #expect(capped.json["answer"] as? String == free.json["answer"] as? String)
    let refused = Tool.run(arguments + ["--memory-cap", "\(smallest - 1)"])
    #expect(refused.status == 1)
    #expect(refused.error.contains("\(smallest)") && refused.error.contains("--kv int8"))
    #expect(refused.error.split(separator: "\n").count == 1)
  }

  /// The kernel's figure is below the plan's, and not by much.
  @Test(arguments: [
    [], ["--stream", "on"], ["--stream", "off"], ["--kv", "int8"], ["--kv", "f32"],
    ["--threads", "1"], ["--threads", "4"], ["--visual-tokens", "64"], ["--compute", "f32"],
  ])
  func thePlanIsCloseAboveTheTruth(_ options: [String]) throws {
    let limits = Self.limits + options
    let slack = try slack(Self.run(limits))
    #expect(slack >= 0, "\(options)")
    let allowed = try allowedSlack(plan(limits).peak)
    #expect(slack < allowed, "\(options): \(slack) bytes")
  }

  @Test(arguments: [
    "gqa-linear-sharded", "mha-biases", "one-kv-head-tied-full", "seven-heads-nested", "text-only",
    "tied-attention-bias-full", "yarn-padded",
  ])
  func thePlanHoldsForTinyModels(_ name: String) throws {
    let path = Tool.scratch.appendingPathComponent("\(name)-capped.piom").path
    let source = Tool.repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)").path
    try #require(Tool.run(["convert", source, path, "--weights", "int8"]).status == 0)
    let limits = ["--context", "64", "--max-tokens", "40", "--codec-memory", "1MiB"]
    let pixels = ["--max-image-pixels", "112896"]
    let json = Tool.run(["plan", path, "--json"] + limits + pixels).json
    let smallest = try #require(json["smallest_cap_bytes"] as? Int)
    let planned = try #require(json["peak_bytes"] as? Int)
    let hasVision = name != "text-only"
    let arguments =
      ["run", path, "--raw", "--json"] + limits + pixels
      + (hasVision ? ["--image", Self.image, "<image> ab"] : ["ab cd"])
    let free = Tool.run(arguments)
    let slack = try slack(free)
    #expect(slack >= 0 && slack < allowedSlack(planned), "\(slack) bytes")
    let capped = Tool.run(arguments + ["--memory-cap", "\(smallest)"])
    #expect(try peak(capped) <= smallest)
    #expect(capped.json["tokens"] as? [Int] == free.json["tokens"] as? [Int])
  }

  @Test(arguments: [[], ["--lock"]])
  func imageAfterImageTakesNoMore(_ options: [String]) throws {
    let names = try FileManager.default.contentsOfDirectory(
      atPath: Tool.repository.appendingPathComponent("tools/demo/images").path
    ).filter { $0.hasSuffix(".png") }.sorted()
    try #require(names.count > 10)
    let limits = [
      "--context", "96", "--max-tokens", "40", "--max-image-pixels", "400000",
      "--codec-memory", "1MiB", "--jsonl",
    ]
    let cap = try plan(limits).smallest + (1 << 20)
    var lines: [String] = []
    for round in 0..<3 {
      for name in names {
        let question = round == 1 ? "What color is the circle?" : "Describe the image."
        lines.append("{\"image\": \"\(Tool.image(name))\", \"prompt\": \"\(question)\"}\n")
      }
    }
    let result = Tool.run(
      ["run", Tool.demo, "--memory-cap", "\(cap)"] + limits + options, input: lines.joined())
    let reports = try result.output.split(separator: "\n").map { line -> [String: Any] in
      try #require(
        try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any], "\(line)")
    }
    try #require(reports.count == lines.count, "\(result.error)")
    let peaks = reports.map {
      ($0["memory"] as? [String: Any])?["peak_resident_bytes"] as? Int ?? Int.max
    }
    #expect(peaks.last! <= cap)
    #expect(peaks.last! - peaks[20] <= 256 << 10, "grew from \(peaks[20]) to \(peaks.last!)")
    for index in names.indices {
      #expect(
        reports[index]["answer"] as? String == reports[index + 2 * names.count]["answer"] as? String
      )
    }
  }

  /// The tower of the first image makes room for the second one.
  @Test(arguments: [[], ["--lock"]])
  func severalImagesShareTheirRoom(_ options: [String]) throws {
    let limits = [
      "--context", "64", "--max-tokens", "4", "--codec-memory", "1MiB", "--images", "2",
    ]
    let images = ["--image", Self.image, "--image", Tool.image("scene-0014-640x480.png")]
    let smallest = try plan(limits + options).smallest
    for extra in [0, 1, 2, 3] {
      let cap = smallest + extra << 20
      let result = Tool.run(
        ["run", Tool.demo, "Describe the images.", "--json", "--memory-cap", "\(cap)"] + images
          + limits + options)
      #expect(try peak(result) <= cap, "\(options) \(extra) MiB above the smallest")
    }
  }

  @Test func aLineOfManyValuesIsRefusedBeforeItIsDecoded() throws {
    let limits = ["--context", "256", "--codec-memory", "1MiB", "--jsonl"]
    let cap = try plan(limits).smallest
    let hostile = "{\"prompt\": \"x\", \"z\": [" + String(repeating: "[],", count: 9000) + "1]}\n"
    let long = "{\"prompt\": \"" + String(repeating: "a", count: 900_000) + "\"}\n"
    let good = "{\"image\": \"\(Self.image)\", \"prompt\": \"Describe [it], {please}.\"}\n"
    let result = Tool.run(
      ["run", Tool.demo, "--memory-cap", "\(cap)"] + limits, input: hostile + long + good)
    let lines = result.output.split(separator: "\n")
    try #require(lines.count == 3, "\(result.error)")
    #expect(lines[0].contains("more values") && lines[1].contains("longer than"))
    #expect(try peak(result) <= cap)
  }

  /// `plan` may be for a larger machine than this one.
  @Test func aCapAboveTheMachineIsForPlansAlone() {
    let cap = ["--memory-cap", "999999GiB"]
    let run = Tool.run(["run", Tool.demo, "Hello"] + cap)
    #expect(run.status == 64 && run.error.contains("more than this machine has"), "\(run.error)")
    #expect(Tool.run(["plan", Tool.demo] + cap).status == 0)
  }

  @Test(arguments: ["12parsecs", "0", "-1", "-1MiB", "", "MiB", "1e99", "1.2.3MiB"])
  func badCapsAreUsageErrors(_ value: String) {
    for command in [["run", Tool.demo, "Hello"], ["plan", Tool.demo]] {
      let result = Tool.run(command + ["--memory-cap", value])
      #expect(result.status == 64, "\(command[0]) \(value): \(result.error)")
      #expect(result.error.contains("--memory-cap"))
    }
  }

  @Test func autoTakesWhatIsThere() throws {
    let result = Self.run(Self.limits + ["--memory-cap", "auto"])
    #expect(result.status == 0, "\(result.error)")
    #expect(try peak(result) > 0)
  }

  /// The file is cut short between two questions of one process.
  @Test(arguments: ["on", "off", "auto"])
  func aFileCutShortInUseIsOneLine(_ stream: String) throws {
    let path = Tool.scratch.appendingPathComponent("cut-\(stream).piom").path
    try FileManager.default.copyItem(atPath: Tool.demo, toPath: path)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Tool.executable)
    process.arguments = ["run", path, "--jsonl", "--stream", stream]
    let (stdin, stdout, stderr) = (Pipe(), Pipe(), Pipe())
    process.standardInput = stdin
    process.standardOutput = stdout
    process.standardError = stderr
    try process.run()
    let line = "{\"image\": \"\(Self.image)\", \"prompt\": \"Describe the image.\"}\n"
    stdin.fileHandleForWriting.write(Data(line.utf8))
    // To the end of the line: one read may be a part of it.
    var first = Data()
    while !first.contains(0x0A) {
      let piece = stdout.fileHandleForReading.availableData
      try #require(!piece.isEmpty, "the answer is not whole")
      first += piece
    }
    #expect(String(decoding: first, as: UTF8.self).contains("\"answer\""))
    // The tokenizer stays whole: the tensors go.
    #expect(truncate(path, 400_000) == 0)
    stdin.fileHandleForWriting.write(Data(line.utf8))
    try stdin.fileHandleForWriting.close()
    let error = String(
      decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationReason == .exit, "\(error)")
    #expect(process.terminationStatus == 1)
    #expect(error.split(separator: "\n").count == 1 && error.contains("cut short"), "\(error)")
  }
}
