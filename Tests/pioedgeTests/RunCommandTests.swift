import Foundation
import Testing

struct RunCommandTests {
  private let image = Tool.image("scene-0002-336x336.png")
  private let question = "What does the text say?"

  @Test func jsonHasTheKeysOfTheContract() throws {
    let result = Tool.run(["run", Tool.demo, "--image", image, question, "--json"])
    #expect(result.status == 0, "\(result.error)")
    let json = result.json
    #expect((json["answer"] as? String)?.isEmpty == false)
    #expect((json["tokens"] as? [Int])?.isEmpty == false)
    #expect(["stop", "length"].contains(json["finish_reason"] as? String))
    let timings = try #require(json["timings"] as? [String: Double])
    #expect(
      Set(timings.keys).isSuperset(of: [
        "load_ms", "image_decode_ms", "image_encode_ms", "prefill_ms", "first_token_ms",
        "decode_tokens_per_second",
      ]))
    #expect(timings.values.allSatisfy { $0 >= 0 })
    let counts = try #require(json["counts"] as? [String: Int])
    #expect(counts["visual_tokens"] == 576)
    #expect(counts["prefilled_tokens"] == counts["prompt_tokens"])
    #expect(counts["generated_tokens"] == (json["tokens"] as? [Int])?.count)
    let memory = try #require(json["memory"] as? [String: Int])
    let size = try FileManager.default.attributesOfItem(atPath: Tool.demo)[.size] as? Int
    #expect(memory["model_bytes"] == size)
    #expect(memory["peak_resident_bytes"]! > memory["kv_bytes"]!)
    #expect((json["isa"] as? String)?.isEmpty == false)
    #expect(json["threads"] as? Int ?? 0 >= 1)
  }

  @Test(arguments: [nil, "", "\n"])
  func anEmptyQuestionIsRefused(input: String?) {
    let words = ["run", Tool.demo, "--image", image] + (input == nil ? [""] : [])
    let result = Tool.run(words, input: input ?? "")
    #expect(result.status == 1)
    #expect(result.error == "error: the prompt is empty\n")
    #expect(result.output.isEmpty)
  }

  @Test func textJSONAndPipedPromptsGiveOneAnswer() {
    let json = Tool.run(["run", Tool.demo, "--image", image, question, "--json"]).json
    let text = Tool.run(["run", Tool.demo, "--image", image, question])
    let piped = Tool.run(["run", Tool.demo, "--image", image], input: question + "\n")
    let raw = Tool.run([
      "run", Tool.demo, "--image", image, "--raw", "USER: <image>\n\(question) ASSISTANT:",
    ])
    #expect(text.output == (json["answer"] as? String ?? "?") + "\n")
    #expect(piped.output == text.output)
    #expect(raw.output == text.output)
  }

  @Test func linesAnswerEachOnItsOwnAndGoOnAfterABadOne() throws {
    let input = """
      {"image": "\(image)", "prompt": "\(question)"}
      not json
      {"image": "/nonexistent.png", "prompt": "Why?"}
      {"prompt": "no image"}
      {"image": "\(image)", "prompt": "\(question)"}

      """
    let result = Tool.run(["run", Tool.demo, "--jsonl"], input: input)
    #expect(result.status == 0)
    let lines = result.output.split(separator: "\n").map {
      (try? JSONSerialization.jsonObject(with: Data($0.utf8))) as? [String: Any] ?? [:]
    }
    try #require(lines.count == 5)
    #expect(lines[0]["answer"] as? String == lines[4]["answer"] as? String)
    #expect(lines[0]["tokens"] as? [Int] == lines[4]["tokens"] as? [Int])
    #expect(lines[1]["error"] != nil && lines[1]["answer"] == nil)
    #expect((lines[2]["error"] as? String)?.contains("/nonexistent.png") == true)
    #expect(lines[3]["answer"] != nil)
  }

  @Test func everyInstructionSetGivesTheSameTokens() {
    let best = Tool.run(["run", Tool.demo, "--image", image, question, "--json"]).json
    let scalar = Tool.run(
      ["run", Tool.demo, "--image", image, question, "--json"],
      environment: ["PIOEDGE_ISA": "scalar"]
    ).json
    #expect(scalar["isa"] as? String == "scalar")
    #expect(best["tokens"] as? [Int] == scalar["tokens"] as? [Int])
    let unknown = Tool.run(["run", Tool.demo, "Hi"], environment: ["PIOEDGE_ISA": "mmx"])
    #expect(unknown.status == 1 && isOneLine(unknown.error))
  }

  @Test func equalLinesWithOneSeedGetEqualAnswers() throws {
    let line = "{\"image\": \"\(image)\", \"prompt\": \"\(question)\"}\n"
    let result = Tool.run(
      ["run", Tool.demo, "--jsonl", "--temperature", "3", "--seed", "1", "--max-tokens", "12"],
      input: String(repeating: line, count: 3))
    let answers = result.output.split(separator: "\n").map { line -> [Int]? in
      let object = try? JSONSerialization.jsonObject(with: Data(line.utf8))
      return (object as? [String: Any])?["tokens"] as? [Int]
    }
    try #require(result.status == 0 && answers.count == 3, "\(result.error)")
    #expect(answers[0] != nil && answers[1] == answers[0] && answers[2] == answers[0])
  }

  @Test func dumpsTheLogitsOfTheFirstToken() throws {
    let path = Tool.scratch.appendingPathComponent("logits.bin").path
    let json = Tool.run([
      "run", Tool.demo, "--image", image, question, "--json", "--dump-logits", path,
    ]).json
    let logits = try Data(contentsOf: URL(fileURLWithPath: path)).withUnsafeBytes {
      Array($0.bindMemory(to: Float.self))
    }
    #expect(logits.count == 1024)
    let best = logits.indices.max { logits[$0] < logits[$1] }
    #expect(best == (json["tokens"] as? [Int])?.first)
  }

  private static let diagnostics = ["--dump-logits", "--dump-saliency", "--explain"]

  /// Nothing larger than 512 bytes can be written: each of these files is.
  @Test(arguments: diagnostics)
  func anOldFileSurvivesADiagnosticThatCannotBeWritten(_ option: String) throws {
    let path = Tool.scratch.appendingPathComponent("old\(option)").path
    let old = Data("what was there before".utf8)
    try old.write(to: URL(fileURLWithPath: path))
    let run =
      Tool.command + [
        "run", Tool.demo, "--image", image, question, "--visual-tokens", "64", option, path,
      ]
    let words = run.map { "'\($0)'" }.joined(separator: " ")
    let result = Tool.shell("trap '' XFSZ; ulimit -f 1; exec \(words)")
    #expect(result.status == 1)
    #expect(isOneLine(result.error) && result.error.contains("File too large"), "\(result.error)")
    #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == old)
  }

  /// Through links, so that a mistake costs the link and not the machine its device.
  @Test(arguments: diagnostics)
  func aDeviceSurvivesADiagnostic(_ option: String) throws {
    let manager = FileManager.default
    let link = Tool.scratch.appendingPathComponent("device\(option)").path
    for (device, status) in [("/dev/full", 1), ("/dev/null", 0)] as [(String, Int32)] {
      try manager.createSymbolicLink(atPath: link, withDestinationPath: device)
      let result = Tool.run([
        "run", Tool.demo, "--image", image, question, "--visual-tokens", "64", option, link,
      ])
      #expect(result.status == status, "\(result.error)")
      #expect((try? manager.destinationOfSymbolicLink(atPath: link)) == device)
      try? manager.removeItem(atPath: link)
    }
  }

  @Test(arguments: [
    ["run"], ["run", "m.piom", "--max-tokens", "0", "x"], ["run", "m.piom", "--kv", "int3", "x"],
    ["run", "m.piom", "--temperature", "-1", "x"], ["run", "m.piom", "--threads", "0", "x"],
    ["run", "m.piom", "--jsonl", "x"], ["run", "m.piom", "--raw", "--system", "s", "x"],
    ["frobnicate"],
  ])
  func wrongUsageExitsWith64(_ arguments: [String]) {
    let result = Tool.run(arguments)
    #expect(result.status == 64)
    #expect(result.error.contains("Usage:") && result.output.isEmpty)
  }

  @Test(arguments: ["run", "plan", "bench", "eval"])
  func theHelpFitsTwoScreensAndSaysWhereTheRestIs(_ command: String) {
    let short = Tool.run([command, "--help"]).output.split(
      separator: "\n", omittingEmptySubsequences: false)
    #expect(short.count <= 60)
    #expect(short.allSatisfy { $0.count <= 100 })
    #expect(short.contains { $0.contains("--help-hidden") })
    let whole = Tool.run([command, "--help-hidden"]).output
    for section in ["SESSION:", "MEMORY:"] {
      #expect(whole.contains("\n\(section)\n") && !short.contains(Substring(section)))
    }
    #expect(whole.contains("--codec-memory") && whole.contains("--max-image-pixels"))
  }

  @Test func failuresExitWith1AndOneLine() throws {
    let cut = Tool.scratch.appendingPathComponent("cut.piom")
    try Data(contentsOf: URL(fileURLWithPath: Tool.demo)).prefix(100_000).write(to: cut)
    let notImage = Tool.scratch.appendingPathComponent("text.png")
    try Data("hello".utf8).write(to: notImage)
    for arguments in [
      ["run", "/nonexistent.piom", "x"], ["run", "/", "x"], ["run", cut.path, "x"],
      ["run", image, "x"], ["run", Tool.demo, "--image", "/nonexistent.png", "x"],
      ["run", Tool.demo, "--image", notImage.path, "x"],
      ["run", Tool.demo, "--image", image, "--max-image-pixels", "1000", "x"],
      ["run", Tool.demo, "--context", "4", "a question that is too long for four rows"],
      ["run", Tool.demo, "--context", "4000000", "x"],
      ["run", Tool.demo, "--image", image, "--image", image, "--images", "1", "x"],
      ["run", Tool.demo, "--raw", "<image> without an image"],
    ] {
      let result = Tool.run(arguments)
      #expect(result.status == 1, "\(arguments): \(result.error)")
      #expect(isOneLine(result.error), "\(arguments): \(result.error)")
      #expect(result.output.isEmpty || result.output == "\n", "\(arguments)")
    }
  }

  @Test(arguments: [["--json"], []])
  func outputThatCannotBeWrittenIsAFailure(_ options: [String]) throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Tool.command[0])
    process.arguments =
      Tool.command.dropFirst() + ["run", Tool.demo, "--image", image, question] + options
    process.standardOutput = FileHandle(forWritingAtPath: "/dev/full")
    let stderr = Pipe()
    process.standardError = stderr
    try process.run()
    let error = String(decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    #expect(process.terminationStatus == 1)
    #expect(isOneLine(error) && error.contains("standard output"))
  }

  @Test func aLineThatNeverEndsIsRefusedInBoundedMemory() throws {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = [
      "-c",
      """
      (head -c 200000000 /dev/zero; echo; echo '{"prompt": "Hi", "image": "\(image)"}') \
        | "\(Tool.executable)" run "\(Tool.demo)" --jsonl
      """,
    ]
    let stdout = Pipe()
    process.standardOutput = stdout
    try process.run()
    let lines = stdout.fileHandleForReading.readDataToEndOfFile().split(separator: 0x0A)
      .compactMap { (try? JSONSerialization.jsonObject(with: $0)) as? [String: Any] }
    process.waitUntilExit()
    try #require(process.terminationStatus == 0 && lines.count == 2)
    #expect((lines[0]["error"] as? String)?.contains("longer than") == true)
    let memory = try #require(lines[1]["memory"] as? [String: Int])
    #expect(memory["peak_resident_bytes"]! < 100 << 20)
  }

  @Test func extremePenaltiesAreNotDamage() {
    for penalty in ["3e38", "1e-45"] {
      let result = Tool.run([
        "run", Tool.demo, "--image", image, question, "--max-tokens", "3", "--repetition-penalty",
        penalty,
      ])
      #expect(result.status == 0, "\(penalty): \(result.error)")
    }
  }

  @Test func damagedWeightsEndInAnErrorAndNotInText() throws {
    // Every byte of the last tensor's end becomes an infinite scale: the head's logits are no numbers.
    var bytes = try Data(contentsOf: URL(fileURLWithPath: Tool.demo))
    for index in (bytes.count - 20_000)..<bytes.count { bytes[index] = index % 2 == 0 ? 0 : 0x7C }
    let damaged = Tool.scratch.appendingPathComponent("damaged.piom")
    try bytes.write(to: damaged)
    let result = Tool.run(["run", damaged.path, "--image", image, question])
    #expect(result.status == 1)
    #expect(isOneLine(result.error) && result.error.contains("not a number"))
    let verified = Tool.run(["run", damaged.path, "--verify", "--image", image, question])
    #expect(verified.status == 1 && verified.error.contains("checksum"))
  }

  private func isOneLine(_ text: String) -> Bool {
    text.hasSuffix("\n") && text.dropLast().allSatisfy { !$0.isNewline } && text.count > 10
  }
}
