import CPIOKernels
import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

private let checkpoints = [
  "gqa-linear-sharded", "llama3-no-projector-bias", "mha-biases", "one-kv-head-tied-full",
  "seven-heads-nested", "text-only", "tied-attention-bias-full", "yarn-padded",
]

private func options(
  _ source: String, _ folder: TemporaryFolder,
  _ rules: EncodingRules = EncodingRules(weights: .int4),
  threads: Int = 2
) -> ConvertOptions {
  ConvertOptions(
    source: source, target: folder.path + "/model.piom", rules: rules, threadCount: threads)
}

/// A tensor of the source in f32, whatever its type.
private func sourceValues(_ tensor: CheckpointFixture.Tensor) -> [Float] {
  tensor.bytes.withUnsafeBytes { bytes in
    let size = tensor.type == "F32" ? 4 : 2
    return (0..<bytes.count / size).map { i in
      switch tensor.type {
      case "F32": bytes.loadUnaligned(fromByteOffset: 4 * i, as: Float.self)
      case "F16":
        Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)))
      default:
        Float(
          bitPattern: UInt32(bytes.loadUnaligned(fromByteOffset: 2 * i, as: UInt16.self)) << 16)
      }
    }
  }
}

private func index(of name: String, in model: borrowing ModelFile) throws -> Int {
  let index = model.index(of: name)
  return try #require(index)
}

private func squares(_ values: [Float]) -> Double {
  values.reduce(0) { $0 + Double($1) * Double($1) }
}

@Suite struct ConvertTests {
  /// Every generation of names, biases, tied heads, shards: all numbers arrive, none is lost.
  @Test(arguments: checkpoints)
  func f32FilesHoldTheNumbersOfTheSource(name: String) throws {
    let folder = try TemporaryFolder()
    let report = try convert(options(golden(name), folder, EncodingRules(weights: .f32)))
    let model = try ModelFile(path: folder.path + "/model.piom")
    try model.verify()
    #expect(report.byteCount == model.byteCount)
    // Every tensor of the source is in the file once, whatever the name, unless it is not needed.
    var found: [[UInt8]: Int] = [:]
    for index in model.tensors.indices { found[Array(model.data(index)), default: 0] += 1 }
    var used = 0
    for tensor in try CheckpointFixture(name).tensors where !report.ignored.contains(tensor.name) {
      let bytes = sourceValues(tensor).withUnsafeBytes { Array($0) }
      #expect(found[bytes, default: 0] > 0, "\(tensor.name)")
      used += 1
    }
    // The frequencies are computed.
    #expect(model.tensors.count == used + 1)
  }

  @Test func namesFindTheirPlace() throws {
    let folder = try TemporaryFolder()
    try convert(options(golden("mha-biases"), folder, EncodingRules(weights: .f32)))
    let model = try ModelFile(path: folder.path + "/model.piom")
    let fixture = try CheckpointFixture("mha-biases")
    for (ours, theirs) in [
      ("text.layers.1.attention.query.bias", "language_model.model.layers.1.self_attn.q_proj.bias"),
      (
        "text.layers.0.attention.value.weight",
        "language_model.model.layers.0.self_attn.v_proj.weight"
      ),
      (
        "text.layers.0.attention.output.weight",
        "language_model.model.layers.0.self_attn.o_proj.weight"
      ),
      ("text.layers.0.mlp.gate.weight", "language_model.model.layers.0.mlp.gate_proj.weight"),
      ("text.layers.0.mlp.up.bias", "language_model.model.layers.0.mlp.up_proj.bias"),
      (
        "text.layers.0.mlp_norm.weight",
        "language_model.model.layers.0.post_attention_layernorm.weight"
      ),
      ("text.norm.weight", "language_model.model.norm.weight"),
      ("text.head.weight", "language_model.lm_head.weight"),
      ("vision.layers.0.mlp.up.weight", "vision_tower.encoder.layers.0.mlp.fc1.weight"),
      ("vision.layers.0.mlp_norm.bias", "vision_tower.encoder.layers.0.layer_norm2.bias"),
      ("vision.pre_norm.weight", "vision_tower.pre_layrnorm.weight"),
      ("vision.patch_embedding.weight", "vision_tower.embeddings.patch_embedding.weight"),
      ("projector.linear2.bias", "multi_modal_projector.linear_2.bias"),
    ] {
      let index = try index(of: ours, in: model)
      let bytes = sourceValues(fixture[theirs]).withUnsafeBytes { Array($0) }
      #expect(Array(model.data(index)) == bytes, "\(ours)")
    }
  }

  @Test(arguments: [TensorKind.int4, .int4Affine, .int8], [32, 128])
  func codesComeCloseToTheSource(kind: TensorKind, group: Int) throws {
    let folder = try TemporaryFolder()
    let rules = EncodingRules(weights: kind, visionWeights: kind, group: group)
    let report = try convert(options(golden("seven-heads-nested"), folder, rules))
    let model = try ModelFile(path: folder.path + "/model.piom")
    try model.verify()
    let fixture = try CheckpointFixture("seven-heads-nested")
    let theirs = "model.language_model.layers.2.mlp.up_proj.weight"
    let index = try index(of: "text.layers.2.mlp.up.weight", in: model)
    let entry = model.tensors[index]
    let (rows, columns) = (entry.spec.shape.rows, entry.spec.shape.columns)
    #expect(entry.encoding == TensorEncoding(kind: kind, layout: .blocks16, group: group))
    var matrix = pio_matrix(
      blocks: model.data(index).baseAddress!.assumingMemoryBound(to: UInt8.self), rows: rows,
      cols: columns, group: UInt32(group), quant: UInt32(kind.rawValue))
    var stored = [Float](repeating: 0, count: rows * columns)
    pio_dequantize_rows(&stored, columns, &matrix, 0, rows)
    let weights = sourceValues(fixture[theirs])
    let noise = squares(zip(weights, stored).map { $0 - $1 })
    let reported = try #require(report.tensors[index].noise)
    #expect(abs(noise - reported) < 1e-3 * noise)
    #expect(10 * log10(squares(weights) / noise) > (kind == .int8 ? 38 : 17))
  }

  @Test func int8RowsOfTheEmbeddingAreCodesThenScales() throws {
    let folder = try TemporaryFolder()
    try convert(options(golden("seven-heads-nested"), folder))
    let model = try ModelFile(path: folder.path + "/model.piom")
    let index = try index(of: "text.embedding", in: model)
    let (entry, bytes) = (model.tensors[index], model.data(index))
    #expect(entry.encoding == TensorEncoding(kind: .int8, layout: .rows, group: 32))
    let columns = entry.spec.shape.columns
    let groups = (columns + 31) / 32
    let weights = sourceValues(
      try CheckpointFixture("seven-heads-nested")["model.language_model.embed_tokens.weight"])
    var noise = 0.0
    for row in 0..<entry.spec.shape.rows {
      let start = row * groups * 34
      for column in 0..<columns {
        let scale = Float16(
          bitPattern: bytes.loadUnaligned(
            fromByteOffset: start + 32 * groups + 2 * (column / 32), as: UInt16.self))
        let stored = Float(scale) * (Float(bytes[start + column]) - 128)
        let difference = Double(weights[row * columns + column] - stored)
        noise += difference * difference
      }
      for column in columns..<32 * groups { #expect(bytes[start + column] == 128) }
    }
    #expect(10 * log10(squares(weights) / noise) > 40)
  }

  @Test(arguments: ["gqa-linear-sharded", "seven-heads-nested"])
  func theBytesDoNotDependOnTheThreads(name: String) throws {
    var files: Set<Data> = []
    for threads in [1, 2, 3, 7] {
      let folder = try TemporaryFolder()
      try convert(options(golden(name), folder, threads: threads))
      files.insert(FileManager.default.contents(atPath: folder.path + "/model.piom")!)
    }
    #expect(files.count == 1)
  }

  @Test func aTensorLargerThanAChunkArrivesWhole() throws {
    // 5,000 rows of 300: several chunks of several blocks, the last one partial.
    let folder = try TemporaryFolder()
    var fixture = try CheckpointFixture("text-only")
    let rows = 50_003
    var source = WeightSource(state: 17)
    let columns = fixture["model.embed_tokens.weight"].shape[1]
    let values = source.weights(rows * columns)
    fixture["model.embed_tokens.weight"] = CheckpointFixture.Tensor(
      name: "model.embed_tokens.weight", type: "F32", shape: [rows, columns],
      bytes: values.withUnsafeBytes { Array($0) })
    fixture.set("vocab_size", rows)
    try fixture.write(to: folder)
    var calls: [ConvertProgress] = []
    let report = try convert(
      options(
        folder.path, folder,
        EncodingRules(
          weights: .int8,
          keep: [
            KeepRule(pattern: "text.embedding", kind: .f32)
          ]))
    ) { progress in
      calls.append(progress)
      return true
    }
    let model = try ModelFile(path: folder.path + "/model.piom")
    let index = try index(of: "text.embedding", in: model)
    #expect(Array(model.data(index)) == values.withUnsafeBytes { Array($0) })
    #expect(report.tensors[index].noise == 0)
    let converting = calls.filter { $0.step == .converting }
    #expect(converting.last.map { $0.doneBytes == $0.totalBytes } == true)
    #expect(zip(converting, converting.dropFirst()).allSatisfy { $0.doneBytes <= $1.doneBytes })
  }

  @Test func provenanceNamesSourcesAndRecipe() throws {
    let folder = try TemporaryFolder()
    var all = options(golden("gqa-linear-sharded"), folder)
    all.rules.keep = [KeepRule(pattern: "text.layers.0.*", kind: .int8)]
    try convert(all)
    let provenance = try ModelFile(path: all.target).provenance
    #expect(provenance.converter == converterName)
    #expect(
      provenance.recipe
        == "--weights int4 --group 32 --vision-weights int8 --keep text.layers.0.*=int8")
    let names = provenance.sources.map(\.name)
    #expect(names == names.sorted() && names.count >= 11)
    let config = FileManager.default.contents(atPath: all.source + "/config.json")!
    #expect(
      provenance.sources.first { $0.name == "config.json" }?.sha256
        == SHA256Tests.digest(Array(config)))
  }

  @Test func aDryRunWritesNothingAndKnowsTheSize() throws {
    let folder = try TemporaryFolder()
    var dry = options(golden("mha-biases"), folder)
    dry.isDryRun = true
    let planned = try convert(dry)
    #expect(folder.contents.isEmpty)
    dry.isDryRun = false
    #expect(try convert(dry).byteCount == planned.byteCount)
    #expect(try ModelFile(path: dry.target).byteCount == planned.byteCount)
  }

  @Test func replacesATargetOnlyIfToldTo() throws {
    let folder = try TemporaryFolder()
    var all = options(golden("mha-biases"), folder)
    try Data("mine".utf8).write(to: URL(fileURLWithPath: all.target))
    #expect(conversionError(all) == .targetExists(path: all.target))
    #expect(FileManager.default.contents(atPath: all.target) == Data("mine".utf8))
    all.replacesTarget = true
    try convert(all)
    try ModelFile(path: all.target).verify()
    #expect(folder.contents == ["model.piom"])
  }

  @Test(arguments: ["model.safetensors", "config.json", "tokenizer.json"], [false, true])
  func neverReplacesAFileOfTheSource(name: String, throughALink: Bool) throws {
    let folder = try TemporaryFolder()
    try CheckpointFixture("mha-biases").write(to: folder)
    let path = "\(folder.path)/\(name)"
    let before = FileManager.default.contents(atPath: path)
    var all = options(folder.path, folder)
    all.chatTemplate = "plain"
    all.target = throughALink ? "\(folder.path)/link" : "\(folder.path)/./\(name)"
    all.replacesTarget = true
    if throughALink {
      try FileManager.default.createSymbolicLink(atPath: all.target, withDestinationPath: path)
    }
    #expect(conversionError(all) == .targetIsSource(path: all.target, file: name))
    #expect(before != nil && FileManager.default.contents(atPath: path) == before)
  }

  @Test(
    .timeLimit(.minutes(1)),
    arguments: ["config.json", "processor_config.json", "model.safetensors"])
  func aPipeIsNoSourceFile(name: String) throws {
    let folder = try TemporaryFolder()
    try CheckpointFixture("mha-biases").write(to: folder)
    let path = "\(folder.path)/\(name)"
    try FileManager.default.removeItem(atPath: path)
    try #require(mkfifo(path, 0o600) == 0)
    #expect(conversionError(options(folder.path, folder)) == .notAFile(path: path))
  }

  @Test(
    .timeLimit(.minutes(1)),
    arguments: ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"])
  func aPipeIsNoTokenizerFile(name: String) throws {
    let folder = try TemporaryFolder()
    try CheckpointFixture("mha-biases").write(to: folder)
    let path = "\(folder.path)/\(name)"
    try? FileManager.default.removeItem(atPath: path)
    try #require(mkfifo(path, 0o600) == 0)
    #expect(
      conversionError(options(folder.path, folder)) == .tokenizer(.notAFile(file: name)))
  }

  @Test func refusesANameBeforeReadingTheSource() throws {
    let folder = try TemporaryFolder()
    var all = options("/nonexistent", folder)
    all.target = "\(folder.path)/" + String(repeating: "n", count: 256)
    #expect(
      conversionError(all) == .model(.cannotWrite(path: all.target, errno: ENAMETOOLONG)))
  }

  @Test func anEarlyEndLeavesNothing() throws {
    let folder = try TemporaryFolder()
    var calls = 0
    var error: ConvertError?
    do throws(ConvertError) {
      try convert(options(golden("mha-biases"), folder)) { progress in
        calls += progress.step == .converting ? 1 : 0
        return calls < 20
      }
    } catch let found {
      error = found
    }
    #expect(error == .cancelled && calls == 20)
    #expect(folder.contents.isEmpty)
  }
}
