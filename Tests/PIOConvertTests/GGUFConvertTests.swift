import CPIOKernels
import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

private func options(
  _ source: String, _ folder: TemporaryFolder, weights: TensorKind? = nil,
  projector: String? = nil, threads: Int = 2
) -> ConvertOptions {
  var options = ConvertOptions(
    source: source, target: folder.path + "/model.piom", rules: EncodingRules(weights: weights),
    threadCount: threads)
  options.projector = projector
  return options
}

/// What the package gguf makes of every tensor of `kinds.gguf`.
private struct Reference: Decodable {
  struct Tensor: Decodable {
    let type: String
    let sha256: String
  }
  let tensors: [String: Tensor]

  static func load() throws -> [String: Tensor] {
    let path = repository.appendingPathComponent("Tests/Golden/gguf/kinds/golden.json")
    return try JSONDecoder().decode(Reference.self, from: Data(contentsOf: path)).tensors
  }
}

/// Our name for a tensor of `kinds.gguf`.
private func ours(_ name: String) -> String {
  switch name {
  case "token_embd.weight": return "text.embedding"
  case "output_norm.weight": return "text.norm.weight"
  case "output.weight": return "text.head.weight"
  default: break
  }
  let modules = [
    "attn_norm": "attention_norm", "attn_q": "attention.query", "attn_k": "attention.key",
    "attn_v": "attention.value", "attn_output": "attention.output", "ffn_norm": "mlp_norm",
    "ffn_gate": "mlp.gate", "ffn_up": "mlp.up", "ffn_down": "mlp.down",
  ]
  let parts = name.split(separator: ".").map(String.init)
  return "text.layers.\(parts[1]).\(modules[parts[2]]!).\(parts[3])"
}

private func index(of name: String, in model: borrowing ModelFile) throws -> Int {
  let index = model.index(of: name)
  return try #require(index)
}

/// The numbers a file says tensor `index` has.
private func numbers(_ model: borrowing ModelFile, _ index: Int) -> [Float] {
  let (entry, data) = (model.tensors[index], model.data(index))
  let (rows, columns) = (entry.spec.shape.rows, entry.spec.shape.columns)
  switch (entry.encoding.kind, entry.encoding.layout) {
  case (.f32, _):
    return (0..<rows * columns).map { data.load(fromByteOffset: 4 * $0, as: Float.self) }
  case (.f16, _), (.bf16, _):
    return (0..<rows * columns).map {
      let bits = data.load(fromByteOffset: 2 * $0, as: UInt16.self)
      return entry.encoding.kind == .f16 ? pio_f16_to_f32(bits) : pio_bf16_to_f32(bits)
    }
  case (_, .rows):
    let groups = (columns + 31) / 32
    return (0..<rows * columns).map { i in
      let (row, column) = (i / columns * groups * 34, i % columns)
      let scale = data.loadUnaligned(
        fromByteOffset: row + groups * 32 + 2 * (column / 32), as: UInt16.self)
      return pio_f16_to_f32(scale) * Float(Int(data[row + column]) - 128)
    }
  default:
    var matrix = pio_matrix(
      blocks: data.baseAddress!.assumingMemoryBound(to: UInt8.self), rows: rows, cols: columns,
      group: UInt32(entry.encoding.group), quant: UInt32(entry.encoding.kind.rawValue))
    var out = [Float](repeating: 0, count: rows * columns)
    pio_dequantize_rows(&out, columns, &matrix, 0, rows)
    return out
  }
}

private func digest(_ numbers: [Float]) -> String {
  SHA256Tests.digest(numbers.withUnsafeBytes { Array($0) })
}

private let lossless: Set<String> = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q8_0"]

@Suite struct GGUFConvertTests {
  /// Every type, and the order of query and key rows, bit by bit.
  @Test func everyTypeHasTheNumbersOfTheReference() throws {
    let folder = try TemporaryFolder()
    try convert(options(goldenGGUF("kinds"), folder, weights: .f32))
    let model = try ModelFile(path: folder.path + "/model.piom")
    try model.verify()
    let reference = try Reference.load()
    #expect(Set(reference.values.map(\.type)) == Set(WeightType.allCases.map(\.name)))
    for (name, tensor) in reference {
      let index = try index(of: ours(name), in: model)
      #expect(digest(numbers(model, index)) == tensor.sha256, "\(name), \(tensor.type)")
    }
    let count = model.tensors.count
    #expect(count == reference.count + 1)  // and the frequencies
  }

  @Test func whatIsKeptKeepsEveryNumber() throws {
    let folder = try TemporaryFolder()
    let report = try convert(options(goldenGGUF("kinds"), folder))
    let model = try ModelFile(path: folder.path + "/model.piom")
    let kinds: [String: TensorKind] = [
      "F32": .f32, "F16": .f16, "BF16": .bf16, "Q4_0": .int4, "Q4_1": .int4Affine, "Q5_0": .int8,
      "Q8_0": .int8, "Q4_K": .int4Affine, "Q5_1": .int8, "Q5_K": .int8, "Q6_K": .int8,
    ]
    var seen: Set<String> = []
    for (name, tensor) in try Reference.load() {
      let index = try index(of: ours(name), in: model)
      let (entry, row) = (model.tensors[index], report.tensors[index])
      #expect(entry.encoding.kind == kinds[tensor.type], "\(name)")
      seen.insert(tensor.type)
      if lossless.contains(tensor.type) {
        #expect(digest(numbers(model, index)) == tensor.sha256, "\(name), \(tensor.type)")
        #expect(row.noise == 0, "\(name), \(tensor.type)")
      } else {
        let snr = try #require(row.snrDecibels)
        #expect(snr > (tensor.type == "Q4_K" ? 55 : 38), "\(name), \(tensor.type): \(snr) dB")
      }
    }
    #expect(seen == Set(kinds.keys))
  }

  /// The error that is reported is that of the file.
  @Test func reportsTheErrorThatIsThere() throws {
    let exact = try TemporaryFolder()
    let kept = try TemporaryFolder()
    try convert(options(goldenGGUF("kinds"), exact, weights: .f32))
    let report = try convert(options(goldenGGUF("kinds"), kept))
    let wanted = try ModelFile(path: exact.path + "/model.piom")
    let found = try ModelFile(path: kept.path + "/model.piom")
    for (index, row) in report.tensors.enumerated() where (row.noise ?? 0) > 0 {
      let noise = zip(numbers(wanted, index), numbers(found, index)).reduce(0.0) {
        $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
      }
      let reported = try #require(row.noise)
      #expect(abs(noise - reported) < 1e-3 * noise, "\(row.entry.spec.name)")
    }
  }

  @Test func int4LeavesWhatHasFiveBitsAtMost() throws {
    let folder = try TemporaryFolder()
    let report = try convert(options(goldenGGUF("kinds"), folder, weights: .int4))
    let reference = try Reference.load()
    var kinds: [String: Set<TensorKind>] = [:]
    for (name, tensor) in reference where name.hasPrefix("blk.") && !name.contains("norm") {
      let row = try #require(report.tensors.first { $0.entry.spec.name == ours(name) })
      kinds[tensor.type, default: []].insert(row.entry.encoding.kind)
    }
    #expect(
      kinds == [
        "Q4_0": [.int4], "Q4_1": [.int4Affine], "Q4_K": [.int4Affine], "Q5_0": [.int8],
        "Q5_1": [.int8], "Q5_K": [.int8], "Q6_K": [.int4], "Q8_0": [.int4], "F32": [.int4],
        "F16": [.int4], "BF16": [.int4],
      ])
  }

  @Test func int8IsForEverything() throws {
    let folder = try TemporaryFolder()
    let report = try convert(options(goldenGGUF("kinds"), folder, weights: .int8))
    for row in report.tensors where row.entry.spec.role != .small {
      #expect(row.entry.encoding.kind == .int8)
    }
    // Four and five bits without a minimum fit into eight as they are.
    let model = try ModelFile(path: folder.path + "/model.piom")
    for (name, tensor) in try Reference.load() where ["Q4_0", "Q5_0", "Q8_0"].contains(tensor.type)
    {
      let index = try index(of: ours(name), in: model)
      #expect(digest(numbers(model, index)) == tensor.sha256, "\(name), \(tensor.type)")
    }
  }

  @Test func theBytesDoNotDependOnTheThreads() throws {
    var files: Set<Data> = []
    for threads in [1, 2, 5] {
      let folder = try TemporaryFolder()
      try convert(options(goldenGGUF("kinds"), folder, threads: threads))
      files.insert(FileManager.default.contents(atPath: folder.path + "/model.piom")!)
    }
    #expect(files.count == 1)
  }

  /// The same model from both formats: every number of decoder, encoder and projector, RoPE too.
  @Test(arguments: ["yarn-padded", "llama3-no-projector-bias", "next-vicuna"])
  func aPairIsTheCheckpointItWasMadeOf(name: String) throws {
    let (theirs, mine) = (try TemporaryFolder(), try TemporaryFolder())
    try convert(options(golden(name), theirs, weights: .f32))
    let all = options(
      goldenGGUF(name), mine, weights: .f32, projector: goldenGGUF(name + "-mmproj"))
    let report = try convert(all)
    let wanted = try ModelFile(path: theirs.path + "/model.piom")
    let found = try ModelFile(path: all.target)
    let (theirConfig, myConfig) = (wanted.config, found.config)
    #expect(myConfig == theirConfig)
    for (index, tensor) in wanted.tensors.enumerated() {
      let mine = found.tensors[index]
      #expect(mine.spec == tensor.spec)
      if tensor.spec.name == "text.rope.inverse_frequencies" {
        for (a, b) in zip(numbers(wanted, index), numbers(found, index)) {
          #expect(abs(a - b) <= 1e-6 * a)
        }
      } else {
        let isSame = found.data(index).elementsEqual(wanted.data(index))
        #expect(isSame, "\(tensor.spec.name)")
      }
    }
    #expect(report.ignored.allSatisfy { $0.hasPrefix("v.") })
    let names = found.provenance.sources.map(\.name)
    #expect(names == ["\(name)-mmproj.gguf", "\(name).gguf"])
  }

  @Test func neverReplacesItsOwnSource() throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("kinds"))
    forge["general.name"] = GGUFForge.string("copy")
    let path = try forge.write(to: folder)
    var all = options(path, folder)
    all.target = path
    all.replacesTarget = true
    #expect(conversionError(all) == .targetIsSource(path: path, file: "model.gguf"))
  }
}

/// One change of a good file, and what is said about it.
private struct Refusal: Sendable, CustomTestStringConvertible {
  let text: String
  let change: @Sendable (inout GGUFForge) -> Void
  var testDescription: String { text }
}

private func refusal(
  _ text: String, _ change: @escaping @Sendable (inout GGUFForge) -> Void
) -> Refusal {
  Refusal(text: text, change: change)
}

private func set(_ key: String, _ value: [UInt8]?, _ text: String) -> Refusal {
  refusal(text) { $0[key] = value }
}

private let textRefusals: [Refusal] = [
  set("general.architecture", GGUFForge.string("phi3"), "'phi3' is not supported"),
  set("general.architecture", nil, "general.architecture 'missing'"),
  set("llama.embedding_length", nil, "llama.embedding_length is missing"),
  set("llama.embedding_length", GGUFForge.uint32(0), "llama.embedding_length is not in"),
  set("llama.embedding_length", GGUFForge.float(256), "no whole number"),
  set("llama.embedding_length", GGUFForge.uint32(128), "has shape"),
  set("llama.block_count", GGUFForge.uint32(4), "tensor blk.3.attn_norm.weight is missing"),
  set("llama.block_count", GGUFForge.uint32(2), "not part of the supported architectures"),
  set("llama.attention.head_count_kv", GGUFForge.ints([1, 2, 1]), "list of different numbers"),
  set("llama.attention.key_length", GGUFForge.uint32(15), "value_length"),
  set("llama.rope.dimension_count", GGUFForge.uint32(8), "llama.rope.dimension_count 8"),
  set("llama.rope.scaling.type", GGUFForge.string("longrope"), "'longrope' is not supported"),
  set("llama.expert_count", GGUFForge.uint32(8), "mixtures of experts"),
  set("split.count", GGUFForge.uint32(3), "llama-gguf-split --merge"),
  set("llama.logit_scale", GGUFForge.float(2), "llama.logit_scale is not supported"),
  set("tokenizer.ggml.model", GGUFForge.string("bert"), "'bert' is not supported"),
  set("tokenizer.ggml.pre", GGUFForge.string("tekken"), "'tekken' is not supported"),
  set("tokenizer.ggml.pre", nil, "tokenizer.ggml.pre is missing"),
  set("tokenizer.ggml.tokens", nil, "tokenizer.ggml.tokens is missing"),
  set("tokenizer.ggml.merges", nil, "tokenizer.ggml.merges is missing"),
  set("tokenizer.ggml.merges", GGUFForge.strings(["xyzzy plugh"]), "merge 0"),
  set("tokenizer.ggml.eos_token_id", GGUFForge.uint32(5_000), "tokenizer.ggml.eos_token_id"),
  set("tokenizer.ggml.token_type", GGUFForge.ints([1]), "not as long as the list of tokens"),
  set("tokenizer.ggml.scores", GGUFForge.floats([1, 2]), "tokenizer.ggml.scores are not one"),
  set(
    "tokenizer.ggml.tokens", GGUFForge.strings([String](repeating: "", count: 400)),
    "has 400 elements"),
  set(
    "tokenizer.ggml.tokens", GGUFForge.strings([String(repeating: "a", count: 257)]),
    "a piece of more than 256 bytes"),
  set("tokenizer.ggml.add_bos_token", GGUFForge.bool(1), "bos_token_id is missing"),
  set("tokenizer.chat_template", GGUFForge.string("{{ 'Hi' }}"), "--chat-template NAME"),
  refusal("tensor output_norm.weight is missing") {
    $0.tensors.removeAll { $0.name == "output_norm.weight" }
  },
  refusal("IQ4_XS, which is not supported") {
    $0.change("blk.0.attn_q.weight") {
      ($0.type, $0.data) = (23, [UInt8](repeating: 0, count: 32 * 136))
    }
  },
  refusal("NaN or infinity in row 0") {
    $0.change("blk.0.ffn_gate.weight") { $0.data[1] = 0x7C }
  },
]

private let visionRefusals: [Refusal] = [
  set("general.architecture", GGUFForge.string("llama"), "clip is"),
  set("clip.projector_type", GGUFForge.string("ldp"), "'ldp' is not supported"),
  set("clip.vision.mm_patch_merge_type", GGUFForge.string("spatial"), "'spatial' is not supported"),
  set(
    "clip.vision.mm_patch_merge_type", GGUFForge.string("spatial_unpad"),
    "clip.vision.image_grid_pinpoints is missing"),
  set(
    "clip.vision.image_grid_pinpoints", GGUFForge.ints([42, 84]), "'flat' is not supported with"),
  set("clip.vision.image_mean", nil, "clip.vision.image_mean is missing"),
  set("clip.vision.image_std", GGUFForge.floats([1, 1, 0]), "clip.vision.image_std is not three"),
  set("clip.vision.feature_layer", GGUFForge.ints([1, 2]), "clip.vision.feature_layer"),
  set("clip.use_silu", GGUFForge.bool(1), "clip.use_silu"),
  refusal("not part of the supported") {
    $0.tensors.append(
      GGUFForge.Tensor(
        name: "model.image_newline", type: 0, dims: [1], data: [UInt8](repeating: 0, count: 4)))
  },
]

/// Of a pair with tiles of 32 pixels.
private let tileRefusals: [Refusal] = [
  set("clip.vision.mm_patch_merge_type", nil, "'flat' is not supported with"),
  set("clip.vision.image_grid_pinpoints", nil, "clip.vision.image_grid_pinpoints is missing"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([32, 33]), "tile size, 32"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([32]), "tile size, 32"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([0, 32]), "tile size, 32"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([1 << 20, 32]), "tile size, 32"),
  set("clip.vision.image_aspect_ratio", GGUFForge.string("pad"), "'pad' is not supported"),
  refusal("model.image_newline") { forge in
    forge.tensors.removeAll { $0.name == "model.image_newline" }
  },
]

@Suite struct GGUFRefusalTests {
  private func text(_ options: ConvertOptions) -> String {
    conversionError(options).map { "\($0)" } ?? "accepted"
  }

  @Test(arguments: textRefusals)
  fileprivate func refusesWhatItCannotRun(refusal: Refusal) throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("kinds"))
    refusal.change(&forge)
    let found = text(options(try forge.write(to: folder), folder))
    #expect(found.contains(refusal.text), "\(found)")
    #expect(!found.contains("\n") && folder.contents == ["model.gguf"])
  }

  @Test(arguments: visionRefusals)
  fileprivate func refusesEncodersItCannotRun(refusal: Refusal) throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("yarn-padded-mmproj"))
    refusal.change(&forge)
    let projector = try forge.write(to: folder, "mmproj.gguf")
    let found = text(options(goldenGGUF("yarn-padded"), folder, projector: projector))
    #expect(found.contains(refusal.text), "\(found)")
  }

  @Test(arguments: tileRefusals)
  fileprivate func refusesTilesItCannotCut(refusal: Refusal) throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("next-vicuna-mmproj"))
    refusal.change(&forge)
    let projector = try forge.write(to: folder, "mmproj.gguf")
    let found = text(options(goldenGGUF("next-vicuna"), folder, projector: projector))
    #expect(found.contains(refusal.text), "\(found)")
  }

  @Test func aFolderTakesNoProjector() throws {
    let folder = try TemporaryFolder()
    let all = options(golden("text-only"), folder, projector: goldenGGUF("yarn-padded-mmproj"))
    #expect(conversionError(all) == .projectorWithoutGGUF(path: golden("text-only")))
  }

  @Test func anEncoderWithoutATemplateNeedsOne() throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("yarn-padded"))
    forge["tokenizer.chat_template"] = nil
    var all = options(
      try forge.write(to: folder), folder, projector: goldenGGUF("yarn-padded-mmproj"))
    #expect(conversionError(all) == .tokenizer(.noChatTemplate))
    all.chatTemplate = "vicuna_v1"
    #expect(try convert(all).config.prompt.name == "vicuna_v1")
  }

  /// A language model's vocabulary has no `<image>`: the piece that no text becomes is it.
  @Test func theUnknownPieceStandsForImages() throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("yarn-padded"))
    let tokens = try #require(forge["tokenizer.ggml.tokens"])
    let hidden = String(decoding: tokens, as: UTF8.self)
    #expect(hidden.contains("<image>"))
    var bytes = tokens
    let range = try #require(Data(tokens).range(of: Data("<image>".utf8)))
    bytes.replaceSubrange(range, with: Array("<other>".utf8))
    forge["tokenizer.ggml.tokens"] = bytes
    let all = options(
      try forge.write(to: folder), folder, projector: goldenGGUF("yarn-padded-mmproj"))
    let report = try convert(all)
    #expect(report.config.specialTokens.image == 0)
    #expect(report.config.prompt.imagePart == "<image>\n")
  }
}
