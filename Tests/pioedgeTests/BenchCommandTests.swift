import Foundation
import Testing

/// `bench` and `inspect --cpu`: what they print, never how fast it was.
struct BenchCommandTests {
  @Test func jsonHasTheKeysOfTheContract() throws {
    let result = Tool.run([
      "bench", Tool.demo, "-p", "16,40", "-n", "4", "-r", "2", "--image", "--json", "--threads",
      "1",
    ])
    #expect(result.status == 0, "\(result.error)")
    let json = result.json
    let prefill = try #require(json["prefill"] as? [[String: Double]])
    #expect(prefill.map { $0["tokens"] } == [16, 40])
    for run in prefill {
      let rate = try #require(run["tokens_per_second"])
      #expect(rate > 0 && run["tokens_per_second_min"]! <= rate)
      #expect(run["tokens_per_second_max"]! >= rate)
      #expect(run["share_of_int8_peak"]! > 0)
    }
    let decode = try #require(json["decode"] as? [String: Double])
    #expect(decode["tokens_per_second"]! > 0 && decode["share_of_bandwidth"]! > 0)
    #expect(json["image_encode_ms"] as? Double ?? 0 > 0)
    let limits = try #require(json["limits"] as? [String: Double])
    #expect(Set(limits.keys) == ["int8_gmacs", "f32_gflops", "read_gbs"])
    #expect(limits.values.allSatisfy { $0 > 0 })
    let first = try #require(json["time_to_first_token_ms"] as? Double)
    #expect(first > json["image_encode_ms"] as! Double)
    let size = try FileManager.default.attributesOfItem(atPath: Tool.demo)[.size] as? Int
    #expect(json["model_bytes"] as? Int == size)
    // The read loop's memory is not the model's.
    let peak = try #require(json["peak_resident_bytes"] as? Int)
    #expect(peak > 0 && peak < 64 << 20)
    #expect(json["threads"] as? Int == 1)
    #expect((json["cpu"] as? String)?.isEmpty == false)
  }

  @Test func prunedRunsStandBesideTheUnprunedOne() throws {
    let result = Tool.run([
      "bench", Tool.demo, "--image", "--visual-tokens", "192,64", "-n", "3", "-r", "2", "--json",
      "--threads", "1",
    ])
    try #require(result.status == 0, "\(result.error)")
    let budgets = try #require(result.json["budgets"] as? [[String: Any]])
    #expect(budgets.map { $0["method"] as? String } == ["none", "pio", "pio"])
    func numbers(_ key: String) throws -> [Double] {
      try budgets.map { try #require($0[key] as? Double) }
    }
    let averages = try numbers("visual_tokens_average")
    #expect(averages[0] == 576 && averages[1] <= 192 && averages[1] > 191)
    #expect(averages[2] <= 64 && averages[2] > 63)
    // 620 rows in 8 layers; 44 of them are text in every layer.
    let bytes = try numbers("kv_bytes")
    for (byteCount, average) in zip(bytes, averages) {
      #expect(abs(byteCount - bytes[0] * (44 + average) / 620) < 1)
    }
    #expect(try zip(numbers("kv_capacity_bytes"), bytes).allSatisfy { $0 > $1 })
    let macs = try numbers("prefill_macs")
    #expect(macs[0] > macs[1] && macs[1] > macs[2])
    let (encode, first, answer) = try (
      numbers("image_encode_ms"), numbers("time_to_first_token_ms"), numbers("answer_ms")
    )
    for index in 0..<3 {
      #expect(encode[index] < first[index] && first[index] < answer[index])
      let stages = try #require(budgets[index]["pruning"] as? [String: Double])
      #expect((stages["macs"]! > 0) == (index > 0))
      #expect((stages["milliseconds"]! > 0) == (index > 0))
      #expect(stages["share_of_prefill"]! < 1)
      let ratios = try #require(budgets[index]["speedup"] as? [String: Double])
      #expect(abs(ratios["prefill_macs"]! - macs[0] / macs[index]) < 1e-9)
      #expect(abs(ratios["kv_bytes"]! - bytes[0] / bytes[index]) < 1e-9)
    }
    let last = try #require(result.json["pruning"] as? [String: Double])
    #expect(last == budgets[2]["pruning"] as? [String: Double])
    #expect(result.json["time_to_first_token_ms"] as? Double == first[2])
    #expect(result.json["peak_resident_bytes"] as? Int ?? 0 > 0)
    #expect(result.json["decode"] is NSNull)
  }

  @Test func leavesOutWhatWasNotAskedFor() throws {
    let result = Tool.run(["bench", Tool.demo, "-p", "8", "-n", "0", "-r", "1", "--json"])
    #expect(result.status == 0, "\(result.error)")
    #expect(result.json["decode"] is NSNull)
    #expect(result.json["image_encode_ms"] is NSNull)
    #expect(result.json["time_to_first_token_ms"] as? Double ?? 0 > 0)
  }

  @Test func theTableNamesMachineKernelsAndThreads() {
    let result = Tool.run(
      ["bench", Tool.demo, "-p", "8", "-n", "2", "-r", "1", "--kv", "int8", "--threads", "2"],
      environment: ["PIOEDGE_ISA": "scalar"])
    #expect(result.status == 0, "\(result.error)")
    for text in ["prefill 8", "decode 2", "KV cache int8", "scalar, 2 thread(s)", "limits here"] {
      #expect(result.output.contains(text), "\(text) in \(result.output)")
    }
  }

  @Test func verbosePrintsThePlan() {
    let result = Tool.run(["bench", Tool.demo, "-p", "8", "-n", "0", "-r", "1", "--verbose"])
    #expect(result.error.contains("smallest cap"))
    #expect(!result.output.contains("smallest cap"))
  }

  @Test func limitsNeedNoModel() {
    let json = Tool.run(["bench", "--limits", "--json", "--threads", "1"]).json
    #expect((json["limits"] as? [String: Double])?.values.allSatisfy { $0 > 0 } == true)
    #expect(json["threads"] as? Int == 1)
  }

  @Test(arguments: [
    ["bench"], ["bench", "x.piom", "--limits"], ["bench", "x.piom", "-p", "0"],
    ["bench", "x.piom", "-p", "12,,3"], ["bench", "x.piom", "-n", "-1"],
    ["bench", "x.piom", "--visual-tokens", "64"],
    ["bench", "x.piom", "--image", "--visual-tokens", "64,,32"],
    ["bench", "x.piom", "--image", "--visual-tokens", "64", "--depth", "8"],
    ["bench", "x.piom", "-r", "0"], ["bench", "x.piom", "--threads", "0"],
    ["inspect"], ["inspect", "x.piom", "--cpu"], ["inspect", "--cpu", "--tensors"],
  ])
  func refusesWrongUsage(arguments: [String]) {
    let result = Tool.run(arguments)
    #expect(result.status == 64)
    #expect(!result.error.isEmpty)
  }

  @Test func refusesWhatTheModelOrTheContextCannotHold() {
    let short = Tool.run(["bench", Tool.demo, "-p", "64", "--context", "32"])
    #expect(short.status == 64)
    #expect(short.error.contains("--context 32"))
    let long = Tool.run(["bench", Tool.demo, "-p", "100000", "-n", "0"])
    #expect(long.status == 1)
    #expect(long.error.split(separator: "\n").count == 1)
  }

  @Test func quantizedArithmeticNeedsQuantizedWeights() {
    let model = Tool.scratch.appending(path: "bench-f16.piom").path
    let made = Tool.run([
      "convert", Tool.repository.appending(path: "tools/demo/checkpoint").path, model, "--weights",
      "f16", "--force",
    ])
    #expect(made.status == 0, "\(made.error)")
    for arguments in [["bench", model, "-p", "8", "-n", "0"], ["run", model, "a"]] {
      let result = Tool.run(arguments + ["--compute", "quantized"])
      #expect(result.status == 64)
      #expect(result.error.contains("is stored in floating point"))
    }
  }

  @Test func inspectNamesTheKernelsInUse() {
    let best = Tool.run(["inspect", "--cpu", "--json"]).json
    let runnable = best["runnable"] as? [String] ?? []
    #expect(runnable.first == "scalar")
    #expect(runnable.contains(best["isa"] as? String ?? "?"))
    #expect((best["cpu"] as? String)?.isEmpty == false)
    let forced = Tool.run(["inspect", "--cpu"], environment: ["PIOEDGE_ISA": "scalar"])
    #expect(forced.output.contains("scalar, self-test passed"))
    let unknown = Tool.run(["inspect", "--cpu"], environment: ["PIOEDGE_ISA": "mmx"])
    #expect(unknown.status == 1)
    #expect(unknown.error.contains("scalar"))
  }
}
