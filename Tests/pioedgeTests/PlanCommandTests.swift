import Foundation
import Testing

struct PlanCommandTests {
  @Test func theJSONHasItsNames() throws {
    let result = Tool.run([
      "plan", Tool.demo, "--memory-cap", "1GiB", "--visual-tokens", "64", "--json",
    ])
    #expect(result.status == 0, "\(result.error)")
    let json = result.json
    let peak = try #require(json["peak_bytes"] as? Int)
    #expect(json["fits"] as? Bool == true)
    #expect(try #require(json["smallest_cap_bytes"] as? Int) <= peak)
    let parts = try #require(json["parts"] as? [[String: Any]])
    let sum = parts.reduce(0) { $0 + ($1["bytes"] as? Int ?? 0) }
    #expect(sum == peak)
    #expect(parts.allSatisfy { ($0["name"] as? String)?.isEmpty == false })
    let limits = try #require(json["limits"] as? [String: Any])
    #expect(limits["memory_cap"] as? Int == 1 << 30)
    #expect(limits["visual_tokens"] as? String == "64")
    #expect(limits["context"] as? Int == 1024)
  }

  @Test func whatDoesNotFitEndsWithOne() throws {
    let result = Tool.run(["plan", Tool.demo, "--memory-cap", "10MiB", "--json"])
    #expect(result.status == 1)
    #expect(result.json["fits"] as? Bool == false)
    let smallest = try #require(result.json["smallest_cap_bytes"] as? Int)
    #expect(result.error.contains("\(smallest)"))
    #expect(result.error.split(separator: "\n").count == 1)
  }

  /// The numbers of the plan are those of the run. A process that is larger when it starts is planned as it is, in steps of
  /// 2 MiB: how much of its code the kernel maps at once varies.
  @Test(arguments: [
    [], ["--kv", "int8", "--context", "200"], ["--memory-cap", "64MiB"], ["--stream", "on"],
  ])
  func runPlansTheSame(_ options: [String]) throws {
    let planned = Tool.run(["plan", Tool.demo, "--json"] + options).json
    let ran = Tool.run(["run", Tool.demo, "Hello", "--json", "--images", "1"] + options).json
    let memory = try #require(ran["memory"] as? [String: Any])
    let peak = try #require(memory["planned_peak_bytes"] as? Int)
    #expect([0, 2 << 20].contains(try peak - #require(planned["peak_bytes"] as? Int)))
  }

  @Test func theTableIsForPeople() {
    let result = Tool.run(["plan", Tool.demo])
    #expect(result.status == 0)
    for word in ["image", "encoder", "decoder", "KV cache", "together", "smallest cap"] {
      #expect(result.output.contains(word), "\(word)")
    }
    let verbose = Tool.run(["run", Tool.demo, "Hello", "--verbose"])
    #expect(verbose.error.contains("smallest cap"))
  }

  /// Every byte but what the two processes themselves take, which the plan of a file measures.
  @Test(arguments: [
    ["--weights", "int4"], ["--weights", "int8", "--group", "64"],
    ["--weights", "f16", "--vision-weights", "int8"],
  ])
  func aCheckpointIsPlannedAsItsFile(_ options: [String]) throws {
    let name = "planned-\(options.joined()).piom"
    let path = Tool.scratch.appendingPathComponent(name).path
    let source = Tool.repository.appendingPathComponent("tools/demo/checkpoint").path
    try #require(Tool.run(["convert", source, path] + options).status == 0)
    let limits = ["--json", "--memory-cap", "64MiB", "--visual-tokens", "64"]
    let ofFile = Tool.run(["plan", path] + limits)
    let ofFolder = Tool.run(["plan", source] + options + limits)
    try #require(ofFile.status == 0 && ofFolder.status == 0, "\(ofFolder.error)")
    #expect(try partsBesideTheProcess(ofFolder) == partsBesideTheProcess(ofFile))
    let other = Tool.run(["plan", source, "--weights", "f32"] + limits)
    #expect(try partsBesideTheProcess(other) != partsBesideTheProcess(ofFile))
  }

  /// Names and bytes of every phase's parts, and what the smallest cap leaves beside the process.
  private func partsBesideTheProcess(_ result: Tool.Result) throws -> [String] {
    let isProcess = { (name: String) in name.hasPrefix("process") }
    var base = 0
    var lines: [String] = []
    for phase in try #require(result.json["phases"] as? [[String: Any]]) {
      for part in try #require(phase["parts"] as? [[String: Any]]) {
        let name = try #require(part["name"] as? String)
        let bytes = try #require(part["bytes"] as? Int)
        if isProcess(name) { base = bytes } else { lines.append("\(name) \(bytes)") }
      }
    }
    try #require(base > 0 && lines.count > 6)
    return lines + ["\(try #require(result.json["smallest_cap_bytes"] as? Int) - base)"]
  }

  @Test func conversionOptionsAreForWhatIsNotConverted() {
    let result = Tool.run(["plan", Tool.demo, "--weights", "int4"])
    #expect(result.status == 64 && result.error.contains("is a .piom file"))
    let missing = Tool.run(["plan", "/nowhere/model.piom"])
    #expect(missing.status == 1 && missing.error.contains("/nowhere/model.piom"))
  }
}
