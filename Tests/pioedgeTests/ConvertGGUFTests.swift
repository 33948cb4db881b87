import Foundation
import PIOFormat
import Testing

private let folder = Tool.repository.appendingPathComponent("Tests/Golden/gguf")
private let kinds = folder.appendingPathComponent("kinds.gguf").path

private func target(_ name: String) -> String {
  Tool.scratch.appendingPathComponent(name).path
}

@Suite struct ConvertGGUFTests {
  @Test func convertsAndAnswers() throws {
    let path = target("kinds.piom")
    let made = Tool.run(["convert", kinds, path])
    #expect(made.status == 0 && made.error.isEmpty, "\(made.error)")
    #expect(try ModelFile(path: path).provenance.recipe == "--weights keep --group 32")
    let answer = Tool.run(["run", path, "--json", "--max-tokens", "4", "Hello"])
    #expect(answer.status == 0 && (answer.json["tokens"] as? [Any])?.isEmpty == false)
  }

  @Test func aPairSeesImages() throws {
    let path = target("pair.piom")
    let pair = folder.appendingPathComponent("yarn-padded").path
    let made = Tool.run(["convert", pair + ".gguf", path, "--mmproj", pair + "-mmproj.gguf"])
    #expect(made.status == 0, "\(made.error)")
    let image = Tool.repository.appendingPathComponent(
      "Tests/Golden/checkpoints/yarn-padded/wide.png")
    let answer = Tool.run([
      "run", path, "--json", "--max-tokens", "2", "--image", image.path, "What is it?",
    ])
    #expect(answer.status == 0, "\(answer.error)")
    #expect((answer.json["counts"] as? [String: Any])?["visual_tokens"] as? Int == 9)
  }

  @Test func verifiesAgainstItsSourceAndAnother() throws {
    let path = target("verified.piom")
    let made = Tool.run(["convert", kinds, path, "--verify-against", kinds])
    #expect(made.status == 0, "\(made.error)")
    // Equal: norms, frequencies and what is kept without loss; the others are listed.
    #expect(made.output.contains("22 of 31 tensors are equal, the tokenizer too"))
    #expect(made.output.contains("text.head.weight"))
    let again = Tool.run(["convert", path, "--verify-against", kinds, "--json"])
    let tensors = try #require(again.json["tensors"] as? [[String: Any]])
    #expect(tensors.count == 31 && again.json["equal_tensors"] as? Int == 22)
    let head = try #require(tensors.first { $0["name"] as? String == "text.head.weight" })
    #expect((head["snr_db"] as? Double).map { $0 > 38 } == true)
    let other = Tool.repository.appendingPathComponent("Tests/Golden/checkpoints/text-only").path
    let wrong = Tool.run(["convert", path, "--verify-against", other])
    #expect(wrong.status == 1 && wrong.error.contains("tensor "), "\(wrong.error)")
  }

  @Test func verifyingFindsDamage() throws {
    let path = target("damaged.piom")
    _ = Tool.run(["convert", kinds, path])
    var bytes = FileManager.default.contents(atPath: path)!
    bytes[bytes.count - 1] ^= 1
    try bytes.write(to: URL(fileURLWithPath: path))
    let result = Tool.run(["convert", path, "--verify-against", kinds])
    #expect(result.status == 1 && result.error.contains("checksum"), "\(result.error)")
  }

  @Test(arguments: [
    (["convert", kinds], Int32(64), "target"),
    (["convert", kinds, "x.piom", "--verify-against", kinds, "--dry-run"], 64, "--dry-run"),
    (["convert", kinds, "x.piom", "--weights", "int5"], 64, "int5"),
    (["convert", "/dev/null", "x.piom"], 1, "regular file"),
    (["convert", Tool.executable, "x.piom"], 1, "is not a GGUF file"),
  ])
  func failuresHaveTheirCode(arguments: [String], status: Int32, text: String) {
    let result = Tool.run(arguments)
    #expect(result.status == status && result.error.contains(text), "\(result.error)")
  }

  /// 400 MB of F32 whose largest tensor has 8 MiB, in a sparse file of zeros.
  @Test(.enabled(if: (ProcessInfo.processInfo.environment["PIOEDGE_LAUNCHER"] ?? "").isEmpty))
  func memoryStaysUnderThreeTensorsAnd64MiB() throws {
    let (dim, hidden) = (1024, 2048)
    let source = target("big.gguf")
    try writeSparseGGUF(source, dim: dim, hidden: hidden, layers: 10, vocab: 2048)
    defer { unlink(source) }
    let result = Tool.run([
      "convert", source, target("big.piom"), "--weights", "int4", "--json", "--verify-against",
      source,
    ])
    #expect(result.status == 0, "\(result.error)")
    let first = try #require(result.output.split(separator: "\n").first)
    let made = try JSONSerialization.jsonObject(with: Data(first.utf8)) as? [String: Any]
    #expect((made?["source_bytes"] as? Int).map { $0 > 400_000_000 } == true)
    let peak = try #require(made?["peak_resident_bytes"] as? Int)
    #expect(peak > 1 << 20 && peak < 3 * hidden * dim * 4 + (64 << 20), "\(peak) bytes")
    #expect(result.json["equal_tensors"] as? Int == 93)
  }
}

/// A decoder of zeros with a vocabulary of bytes and names.
private func writeSparseGGUF(
  _ path: String, dim: Int, hidden: Int, layers: Int, vocab: Int
) throws {
  func le<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
    withUnsafeBytes(of: value.littleEndian) { Array($0) }
  }
  func text(_ text: String) -> [UInt8] { le(UInt64(text.utf8.count)) + Array(text.utf8) }
  var keys: [[UInt8]] = [
    text("general.architecture") + le(UInt32(8)) + text("llama"),
    text("tokenizer.ggml.model") + le(UInt32(8)) + text("llama"),
  ]
  for (name, value) in [
    ("llama.embedding_length", dim), ("llama.feed_forward_length", hidden),
    ("llama.block_count", layers), ("llama.attention.head_count", 16),
    ("llama.context_length", 2048), ("tokenizer.ggml.bos_token_id", 1),
    ("tokenizer.ggml.eos_token_id", 2), ("tokenizer.ggml.unknown_token_id", 0),
  ] {
    keys.append(text(name) + le(UInt32(4)) + le(UInt32(value)))
  }
  let pieces = (0..<vocab).map { $0 < 3 ? ["<unk>", "<s>", "</s>"][$0] : "piece\($0)" }
  keys.append(
    text("tokenizer.ggml.tokens") + le(UInt32(9)) + le(UInt32(8)) + le(UInt64(vocab))
      + pieces.flatMap(text))

  var tensors: [(String, [Int])] = [
    ("token_embd.weight", [dim, vocab]), ("output_norm.weight", [dim]),
  ]
  for layer in 0..<layers {
    let name = "blk.\(layer)."
    tensors += ["attn_norm", "ffn_norm"].map { (name + $0 + ".weight", [dim]) }
    tensors += ["attn_q", "attn_k", "attn_v", "attn_output"].map {
      (name + $0 + ".weight", [dim, dim])
    }
    tensors += ["ffn_gate", "ffn_up"].map { (name + $0 + ".weight", [dim, hidden]) }
    tensors.append((name + "ffn_down.weight", [hidden, dim]))
  }
  var (directory, end) = ([UInt8](), 0)
  for (name, dims) in tensors {
    directory += text(name) + le(UInt32(dims.count))
    for dim in dims { directory += le(UInt64(dim)) }
    directory += le(UInt32(0)) + le(UInt64(end))
    end += 4 * dims.reduce(1, *)
  }
  var front = Array("GGUF".utf8) + le(UInt32(3)) + le(UInt64(tensors.count))
  front += le(UInt64(keys.count)) + keys.flatMap { $0 } + directory
  front += [UInt8](repeating: 0, count: (32 - front.count % 32) % 32)
  try Data(front).write(to: URL(fileURLWithPath: path))
  try #require(truncate(path, off_t(front.count + end)) == 0)
}
