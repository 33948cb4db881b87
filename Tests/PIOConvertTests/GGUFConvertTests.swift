import CPIOKernels
import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

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
    try convert(ggufOptions(goldenGGUF("kinds"), folder, weights: .f32))
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
    let report = try convert(ggufOptions(goldenGGUF("kinds"), folder))
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
    try convert(ggufOptions(goldenGGUF("kinds"), exact, weights: .f32))
    let report = try convert(ggufOptions(goldenGGUF("kinds"), kept))
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
    let report = try convert(ggufOptions(goldenGGUF("kinds"), folder, weights: .int4))
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
    let report = try convert(ggufOptions(goldenGGUF("kinds"), folder, weights: .int8))
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
      try convert(ggufOptions(goldenGGUF("kinds"), folder, threads: threads))
      files.insert(FileManager.default.contents(atPath: folder.path + "/model.piom")!)
    }
    #expect(files.count == 1)
  }

  /// The same model from both formats: every number of decoder, encoder and projector, RoPE too.
  @Test(arguments: [
    "yarn-padded", "llama3-no-projector-bias", "next-vicuna", "smol-shuffle-4", "qwen2-flat",
    "qwen25-windows", "qwen3-deepstack",
  ])
  func aPairIsTheCheckpointItWasMadeOf(name: String) throws {
    let (theirs, mine) = (try TemporaryFolder(), try TemporaryFolder())
    try convert(ggufOptions(golden(name), theirs, weights: .f32))
    let all = ggufOptions(
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
    var all = ggufOptions(path, folder)
    all.target = path
    all.replacesTarget = true
    #expect(conversionError(all) == .targetIsSource(path: path, file: "model.gguf"))
  }
}
