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

  /// The numbers of the plan are those of the run.
  @Test(arguments: [
    [], ["--kv", "int8", "--context", "200"], ["--memory-cap", "64MiB"], ["--stream", "on"],
  ])
  func runPlansTheSame(_ options: [String]) throws {
    let planned = Tool.run(["plan", Tool.demo, "--json"] + options).json
    let ran = Tool.run(["run", Tool.demo, "Hello", "--json", "--images", "1"] + options).json
    let memory = try #require(ran["memory"] as? [String: Any])
    #expect(memory["planned_peak_bytes"] as? Int == planned["peak_bytes"] as? Int)
  }

  @Test func theTableIsForPeople() {
    let result = Tool.run(["plan", Tool.demo])
    #expect(result.status == 0)
    for word in ["picture", "encoder", "decoder", "KV cache", "together", "smallest cap"] {
      #expect(result.output.contains(word), "\(word)")
    }
    let verbose = Tool.run(["run", Tool.demo, "Hello", "--verbose"])
    #expect(verbose.error.contains("smallest cap"))
  }
}
