import Foundation
import Testing

/// `tools/synthetic/checkpoint`: what it writes is what the converter takes.
struct SyntheticCheckpointTests {
  @Test func oneSeedGivesTheSameBytesAndTheToolRunsThem() throws {
    let first = try generate("first", ["--seed", "3"])
    let second = try generate("second", ["--seed", "3"])
    let other = try generate("other", ["--seed", "4"])
    let weights = try #require(read(first, "model.safetensors"))
    #expect(read(second, "model.safetensors") == weights)
    #expect(read(other, "model.safetensors") != weights)
    #expect(read(other, "tokenizer.json") == read(first, "tokenizer.json"))

    let model = first.appendingPathExtension("piom").path
    let converted = Tool.run(["convert", first.path, model, "--weights", "int4"])
    #expect(converted.status == 0, "\(converted.error)")
    let image = Tool.image("scene-0002-336x336.png")
    let answer = Tool.run(["run", model, "--image", image, "abc", "--max-tokens", "3", "--json"])
    #expect(answer.status == 0, "\(answer.error)")
    #expect((answer.json["counts"] as? [String: Int])?["visual_tokens"] == 16)
  }

  @Test func shardsAndLayersAndTypesAreAsAskedFor() throws {
    let folder = try generate(
      "sharded", ["--shard-bytes", "200000", "--layers", "2", "--dtype", "bf16"])
    let names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    #expect(names.filter { $0.hasSuffix(".safetensors") }.count > 1)
    let model = folder.appendingPathExtension("piom").path
    let converted = Tool.run(["convert", folder.path, model, "--weights", "int8"])
    #expect(converted.status == 0, "\(converted.error)")
    let config = Tool.run(["inspect", model, "--json"]).json["config"] as? [String: Any]
    #expect(config?["layers"] as? Int == 2)
    #expect(config?["vocabulary"] as? Int == 512)
  }

  private func generate(_ name: String, _ options: [String]) throws -> URL {
    let folder = Tool.scratch.appendingPathComponent("synthetic-\(name)")
    let tool = Tool.repository.appendingPathComponent("tools/synthetic/checkpoint").path
    let made = Tool.execute([tool, "tiny", folder.path] + options)
    try #require(made.status == 0, "\(made.error)")
    return folder
  }

  private func read(_ folder: URL, _ name: String) -> Data? {
    try? Data(contentsOf: folder.appendingPathComponent(name))
  }
}
