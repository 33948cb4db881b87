import Foundation
import PIOFormat
import Testing

private let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent()
private let demo = repository.appendingPathComponent("tools/demo/checkpoint").path
private let small = repository.appendingPathComponent("Tests/Golden/checkpoints/mha-biases").path
private let launcher = (ProcessInfo.processInfo.environment["PIOEDGE_LAUNCHER"] ?? "")
  .split(separator: " ").map(String.init)

/// One run of the built `pioedge`, its output in files of `folder`.
private struct Run {
  let process: pid_t
  private let folder: TemporaryFolder

  struct Result {
    let status: Int32
    let output: String
    let error: String
  }

  init(_ arguments: [String], in folder: TemporaryFolder) throws {
    self.folder = folder
    let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let tool = URL(fileURLWithPath: tests).deletingLastPathComponent()
      .appendingPathComponent("pioedge").path
    let command = launcher + [tool] + arguments
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (descriptor, name) in [(1, "out"), (2, "err")] as [(Int32, String)] {
      posix_spawn_file_actions_addopen(
        &actions, descriptor, folder.logs + "/" + name, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
    }
    var words = command.map { strdup($0) } + [nil]
    defer { for word in words { free(word) } }
    var child = pid_t()
    let code = posix_spawnp(&child, command[0], &actions, nil, &words, environ)
    try #require(code == 0)
    process = child
  }

  /// The exit code, or minus the signal that ended it.
  func wait() -> Result {
    var status = Int32(0)
    while waitpid(process, &status, 0) < 0, errno == EINTR {}
    let signal = status & 0x7F
    func text(_ name: String) -> String {
      String(
        decoding: FileManager.default.contents(atPath: folder.logs + "/" + name) ?? Data(),
        as: UTF8.self)
    }
    return Result(
      status: signal == 0 ? (status >> 8) & 0xFF : -signal, output: text("out"),
      error: text("err"))
  }
}

private final class TemporaryFolder {
  let path: String
  /// Beside it, so that `contents` are what the tool left.
  let logs: String

  init() throws {
    path = FileManager.default.temporaryDirectory.path + "/pioedge-\(UUID().uuidString)"
    logs = path + "-logs"
    for folder in [path, logs] {
      try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
    }
  }

  deinit { for folder in [path, logs] { try? FileManager.default.removeItem(atPath: folder) } }

  var contents: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [] }
}

private func json(_ text: String) throws -> [String: Any] {
  let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
  return try #require(object)
}

@Suite struct ConvertCommandTests {
  @Test func convertsAndInspects() throws {
    let folder = try TemporaryFolder()
    let target = folder.path + "/model.piom"
    let made = try Run(["convert", small, target], in: folder).wait()
    #expect(made.status == 0 && made.error.isEmpty, "\(made.error)")
    #expect(made.output.contains("decoder") && made.output.contains("SNR dB"))
    let seen = try Run(["inspect", target, "--verify", "--tensors"], in: folder).wait()
    #expect(seen.status == 0 && seen.output.contains("every checksum verified"))
    #expect(seen.output.contains("text.layers.0.attention.query.weight"))
    let object = try json(
      Run(["inspect", target, "--json", "--verify"], in: folder).wait().output)
    #expect(object["verified"] as? Bool == true)
    #expect((object["config"] as? [String: Any])?["heads"] as? Int == 3)
    #expect((object["tensors"] as? [[String: Any]])?.first?["xxh64"] is String)
  }

  @Test func reportsAsJSON() throws {
    let folder = try TemporaryFolder()
    let target = folder.path + "/model.piom"
    let result = try Run(["convert", small, target, "--json"], in: folder).wait()
    let object = try json(result.output)
    let attributes = try FileManager.default.attributesOfItem(atPath: target)
    #expect(object["bytes"] as? Int == attributes[.size] as? Int)
    let parts = try #require(object["parts"] as? [[String: Any]])
    let decoder = try #require(parts.first { $0["part"] as? String == "decoder" })
    #expect(decoder["kind"] as? String == "int4")
    #expect((decoder["snr_db"] as? Double).map { $0 > 15 } == true)
    #expect(decoder["worst_tensor"] is String && decoder["bits_per_weight"] is Double)
  }

  @Test(arguments: [
    (["convert", "/nonexistent", "x.piom"], Int32(1), "config.json"),
    (["convert", small], 64, "target"),
    (["convert", small, "x.piom", "--weights", "int3"], 64, "int3"),
    (["convert", small, "x.piom", "--group", "48"], 64, "--group"),
    (["convert", small, "x.piom", "--keep", "a"], 64, "PATTERN=KIND"),
    (["inspect", "/nonexistent.piom"], 1, "/nonexistent.piom"),
    (["inspect", small + "/config.json"], 1, ".piom"),
  ])
  func failuresHaveTheirCodeAndOneLine(arguments: [String], status: Int32, text: String) throws {
    let folder = try TemporaryFolder()
    let result = try Run(arguments, in: folder).wait()
    #expect(result.status == status && result.output.isEmpty)
    #expect(result.error.contains(text), "\(result.error)")
    if status == 1 {
      #expect(result.error.hasPrefix("error: "))
      #expect(result.error.filter { $0 == "\n" }.count == 1)
    }
  }

  @Test func helpHasExamples() throws {
    let folder = try TemporaryFolder()
    for command in ["convert", "inspect"] {
      let result = try Run([command, "--help"], in: folder).wait()
      #expect(result.status == 0 && result.output.contains("pioedge \(command) "))
    }
  }

  @Test func showsADamagedTensor() throws {
    let folder = try TemporaryFolder()
    let target = folder.path + "/model.piom"
    _ = try Run(["convert", small, target], in: folder).wait()
    var bytes = FileManager.default.contents(atPath: target)!
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: URL(fileURLWithPath: target))
    let result = try Run(["inspect", target, "--verify"], in: folder).wait()
    #expect(result.status == 1 && result.error.contains("checksum"), "\(result.error)")
    #expect(try Run(["inspect", target], in: folder).wait().status == 0)
  }

  /// At whatever moment it dies: nothing, or the whole file. Two of the moments lie behind the end.
  @Test func aKillLeavesNothingOrTheWholeFile() throws {
    for (signal, delays) in [(SIGKILL, 1...8), (SIGINT, 1...4)] {
      for delay in delays {
        let folder = try TemporaryFolder()
        let target = folder.path + "/model.piom"
        let run = try Run(["convert", demo, target, "--weights", "int4"], in: folder)
        usleep(UInt32(delay * delay * 12_000))
        kill(run.process, signal)
        _ = run.wait()
        if folder.contents.isEmpty { continue }
        #expect(folder.contents == ["model.piom"])
        try ModelFile(path: target).verify()
      }
    }
  }

  /// 400 MB of source whose largest tensor has 8 MiB, in a sparse file of zeros.
  @Test(.enabled(if: launcher.isEmpty))
  func memoryStaysUnderThreeTensorsAnd64MiB() throws {
    let folder = try TemporaryFolder()
    let source = folder.logs + "/big"
    let (dim, hidden, layers) = (1024, 2048, 10)
    try FileManager.default.createDirectory(atPath: source, withIntermediateDirectories: true)
    let origin = repository.appendingPathComponent("Tests/Golden/checkpoints/text-only").path
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
      try FileManager.default.copyItem(atPath: "\(origin)/\(name)", toPath: "\(source)/\(name)")
    }
    let config: [String: Any] = [
      "model_type": "llama", "hidden_size": dim, "intermediate_size": hidden,
      "num_hidden_layers": layers, "num_attention_heads": 16, "vocab_size": 2048,
      "tie_word_embeddings": true,
    ]
    try JSONSerialization.data(withJSONObject: config)
      .write(to: URL(fileURLWithPath: source + "/config.json"))
    var shapes = [("model.embed_tokens.weight", [2048, dim]), ("model.norm.weight", [dim])]
    for layer in 0..<layers {
      let name = "model.layers.\(layer)."
      for norm in ["input_layernorm", "post_attention_layernorm"] {
        shapes.append((name + norm + ".weight", [dim]))
      }
      for part in ["q", "k", "v", "o"] {
        shapes.append((name + "self_attn.\(part)_proj.weight", [dim, dim]))
      }
      for part in ["gate", "up"] {
        shapes.append((name + "mlp.\(part)_proj.weight", [hidden, dim]))
      }
      shapes.append((name + "mlp.down_proj.weight", [dim, hidden]))
    }
    var (header, end): ([String: Any], Int) = ([:], 0)
    for (name, shape) in shapes {
      let count = shape.reduce(4, *)
      header[name] = ["dtype": "F32", "shape": shape, "data_offsets": [end, end + count]]
      end += count
    }
    let head = try JSONSerialization.data(withJSONObject: header)
    let start = withUnsafeBytes(of: UInt64(head.count).littleEndian) { Data($0) } + head
    try start.write(to: URL(fileURLWithPath: source + "/model.safetensors"))
    #expect(end > 400_000_000)
    try #require(truncate(source + "/model.safetensors", off_t(start.count + end)) == 0)

    let result = try Run(
      ["convert", source, folder.path + "/model.piom", "--weights", "int4", "--json"], in: folder
    ).wait()
    #expect(result.status == 0, "\(result.error)")
    // Its own count: what wait4 says includes the memory of the test that started it.
    let peak = try #require(try json(result.output)["peak_resident_bytes"] as? Int)
    #expect(peak > 1 << 20 && peak < 3 * hidden * dim * 4 + (64 << 20), "\(peak) bytes")
  }
}
