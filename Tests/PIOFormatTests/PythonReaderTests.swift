import Foundation
import Testing

@testable import PIOFormat

/// A Python with numpy: `PIOEDGE_PYTHON`, or the one on the path. Nil: none.
private let python: String? = {
  let name = ProcessInfo.processInfo.environment["PIOEDGE_PYTHON"] ?? "python3"
  return (try? run([name, "-c", "import numpy"]))?.status == 0 ? name : nil
}()

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent().path

private func run(_ command: [String]) throws -> (status: Int32, output: Data) {
  let process = Process()
  process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
  process.arguments = command
  process.environment = ProcessInfo.processInfo.environment.merging(
    ["OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"]
  ) { $1 }
  let pipe = Pipe()
  process.standardOutput = pipe
  process.standardError = pipe
  try process.run()
  let output = pipe.fileHandleForReading.readDataToEndOfFile()
  process.waitUntilExit()
  return (process.terminationStatus, output)
}

private struct Summary: Decodable {
  struct Tensor: Decodable, Equatable {
    var name, kind, layout, section, checksum: String
    var rows, columns, group, sectionIndex, offset, byteCount: Int
  }
  var byteCount, tokenizerByteCount: Int
  var tensors: [Tensor]
}

extension Summary.Tensor {
  init(_ tensor: TensorEntry) {
    name = tensor.spec.name
    kind = "\(tensor.encoding.kind)"
    layout = "\(tensor.encoding.layout)"
    section = String("\(tensor.spec.section)".prefix { $0 != "(" })
    let digits = String(tensor.checksum, radix: 16)
    checksum = String(repeating: "0", count: 16 - digits.count) + digits
    rows = tensor.spec.shape.rows
    columns = tensor.spec.shape.columns
    group = tensor.encoding.group
    sectionIndex = Int(tensor.spec.section.code.index)
    offset = tensor.offset
    byteCount = tensor.byteCount
  }
}

// Outside the macro: Swift 6.0.3 crashes on a closure in it.
private let existingEncodings = allEncodings.filter {
  byteCount($0, TensorShape(rows: 1, columns: 1)) != nil
}

@Suite(.enabled(if: python != nil, "no python3 with numpy: tools/piom.py is not tested"))
struct PythonReaderTests {
  @Test(arguments: [3, 4, 8, 20])
  func bothReadersReadTheSame(seed: Int) throws {
    let sample = Sample(seed: UInt64(seed))
    try withTemporaryFolder { folder in
      let path = folder + "/a.piom"
      try sample.write(to: path)
      let result = try run([
        python!, root + "/tools/piom.py", "inspect", path, "--verify", "--json",
      ])
      try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
      let decoder = JSONDecoder()
      decoder.keyDecodingStrategy = .convertFromSnakeCase
      let summary = try decoder.decode(Summary.self, from: result.output)
      let file = try ModelFile(path: path)
      #expect(summary.byteCount == file.byteCount)
      #expect(summary.tokenizerByteCount == file.tokenizerSection.count)
      #expect(summary.tensors == file.tensors.map { Summary.Tensor($0) })
    }
  }

  @Test func theMetadataHasTheSameNumbersAndTexts() throws {
    let sample = Sample(seed: 3, vision: true)
    try withTemporaryFolder { folder in
      let path = folder + "/a.piom"
      try sample.write(to: path)
      let result = try run([python!, root + "/tools/piom.py", "inspect", path, "--json"])
      try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
      let json = try JSONSerialization.jsonObject(with: result.output) as? [String: Any]
      let metadata = try #require(json?["metadata"] as? [String: Any])
      let text = sample.config.text
      guard case .llavaNext(let vision)? = sample.config.vision else {
        Issue.record("the sample is not of LLaVA-NeXT")
        return
      }
      // All but those of SmolVLM, its prompt and the Qwen-VL families.
      #expect(metadata.count == MetadataKey.allCases.count - 16)
      #expect(metadata["text.dim"] as? Int == text.dim)
      #expect(metadata["text.vocab_size"] as? Int == text.vocabSize)
      #expect(metadata["text.rope_theta"] as? Double == Double(text.ropeTheta))
      #expect(metadata["text.rms_norm_epsilon"] as? Double == Double(text.rmsNormEpsilon))
      #expect(metadata["text.rope_scaling"] as? Int == Int(text.ropeScaling.rawValue))
      #expect(metadata["vision.layer_count"] as? Int == vision.tower.layerCount)
      #expect((metadata["image.mean"] as? [Double])?.map { Float($0) } == [0.481, 0.457, 0.408])
      #expect(metadata["image.pad_color"] as? Int == 122 << 16 | 116 << 8 | 104)
      #expect(metadata["text.sliding_window"] as? Int == text.slidingWindow)
      let edges = vision.resolutions.flatMap { [$0.height, $0.width] }
      #expect(metadata["image.resolutions"] as? [Int] == edges && edges.count == 6)
      #expect(metadata["prompt.text_prefix"] as? String == "\n")
      #expect(metadata["prompt.default_system"] as? String == sample.config.prompt.defaultSystem)
      #expect(metadata["tokens.end"] as? [Int] == [2, 7])
      #expect(metadata["provenance.recipe"] as? String == sample.provenance.recipe)
      #expect(
        metadata["provenance.sources"] as? [String]
          == sample.provenance.sources.flatMap { [$0.name, $0.sha256] })
    }
  }

  @Test func theMetadataOfTilesWithTextBetweenThemIsThere() throws {
    let sample = Sample(seed: 2, vision: true)
    guard case .smolVLM(let vision)? = sample.config.vision else {
      Issue.record("the sample is not of SmolVLM")
      return
    }
    try withTemporaryFolder { folder in
      let path = folder + "/a.piom"
      try sample.write(to: path)
      let result = try run([python!, root + "/tools/piom.py", "inspect", path, "--json"])
      try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
      let json = try JSONSerialization.jsonObject(with: result.output) as? [String: Any]
      let metadata = try #require(json?["metadata"] as? [String: Any])
      #expect(metadata["projector.shuffle"] as? Int == vision.shuffle)
      #expect(metadata["image.longest_edge"] as? Int == vision.longestEdge)
      #expect(metadata["image.splits"] as? Int == (vision.splits ? 1 : 0))
      let markers = vision.markers.all.flatMap { [$0.count] + $0.map(Int.init) }
      #expect(metadata["image.markers"] as? [Int] == markers && markers.count > 8)
      #expect(metadata["prompt.bare_text_prefix"] as? String == " ")
      #expect(metadata["prompt.conversation_prefix"] as? String == "<|im_start|>")
    }
  }

  @Test(arguments: [UInt64(4), 12, 20])
  func theMetadataOfImagesAtTheirOwnShapeIsThere(_ seed: UInt64) throws {
    let sample = Sample(seed: seed, vision: true)
    try withTemporaryFolder { folder in
      let path = folder + "/a.piom"
      try sample.write(to: path)
      let result = try run([python!, root + "/tools/piom.py", "inspect", path, "--json"])
      try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
      let json = try JSONSerialization.jsonObject(with: result.output) as? [String: Any]
      let metadata = try #require(json?["metadata"] as? [String: Any])
      #expect(metadata["text.rope_sections"] as? [Int] == sample.config.text.ropeSections)
      #expect(metadata["image.most_pixels"] as? Int == 1 << 20)
      #expect((metadata["vision.window"] as? Int == 4) == (seed == 4))
      #expect((metadata["vision.full_layers"] != nil) == (seed == 4))
      for key in ["text.query_key_norm", "text.rope_interleaves"] {
        #expect((metadata[key] as? Int == 1) == (seed == 20))
      }
      #expect((metadata["vision.positions_per_side"] != nil) == (seed == 20))
      #expect((metadata["vision.deepstack_layers"] != nil) == (seed == 20))
    }
  }

  /// Every kind and layout, against the formulas of the specification, number by number.
  @Test(arguments: existingEncodings)
  func theNumbersAreThoseOfTheSpecification(encoding: TensorEncoding) throws {
    var sample = Sample(seed: 9, vision: false)
    let specs = tensorSpecs(for: sample.config)
    let role = TensorRole.matrix.allows(encoding) ? TensorRole.matrix : .embedding
    let index = try #require(specs.firstIndex { $0.role == role })
    var random = TestRandom(1)
    sample.encodings[index] = encoding
    sample.data[index] = (0..<byteCount(encoding, specs[index].shape)!).map { _ in
      .random(in: 0...255, using: &random)
    }
    try withTemporaryFolder { folder in
      let path = folder + "/a.piom"
      try sample.write(to: path)
      let result = try run([python!, root + "/tools/piom.py", "dump", path, specs[index].name])
      try #require(result.status == 0, "\(String(decoding: result.output, as: UTF8.self))")
      let needed = sample.data[index].withUnsafeBytes {
        dequantized($0, encoding, specs[index].shape)
      }
      let found = result.output.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
      try #require(found.count == needed.count)
      let wrong = found.indices.first {
        found[$0].bitPattern != needed[$0].bitPattern && !(found[$0].isNaN && needed[$0].isNaN)
      }
      #expect(wrong == nil)
    }
  }

  @Test func theOtherReaderFindsDamageToo() throws {
    var forge = Forge(try Sample(seed: 3, vision: true).bytes())
    try withTemporaryFolder { folder in
      let path = folder + "/a.piom"
      func answer() throws -> String {
        try Data(forge.bytes).write(to: URL(fileURLWithPath: path))
        let result = try run([python!, root + "/tools/piom.py", "inspect", path, "--verify"])
        #expect(result.status != 0)
        return String(decoding: result.output, as: UTF8.self)
      }
      let last = forge.bytes.count - 1
      forge.bytes[last] ^= 4
      try #expect(answer() == "piom.py: tensor text.head.weight is damaged\n")
      forge.bytes[last] ^= 4
      forge.bytes[100] ^= 4
      try #expect(answer() == "piom.py: directory is damaged\n")
      forge.bytes[20] ^= 4
      try #expect(answer() == "piom.py: header is damaged\n")
      forge.bytes[20] ^= 4
      forge.set(8, UInt64(1) << 63 | 1 << 16)
      forge.seal()
      try #expect(
        answer()
          == "piom.py: needs support for activations of more than 8 bits and unknown features"
          + " (bits 0x8000000000000000), which this reader lacks\n")
    }
  }
}

/// The numbers of a tensor, by the formulas of formats/PIOM.md §7, one at a time.
private func dequantized(
  _ bytes: UnsafeRawBufferPointer, _ encoding: TensorEncoding, _ shape: TensorShape
) -> [Float] {
  func half(_ offset: Int) -> Float {
    Float(Float16(bitPattern: bytes.loadUnaligned(fromByteOffset: offset, as: UInt16.self)))
  }
  func number(_ row: Int, _ column: Int) -> Float {
    let index = row * shape.columns + column
    switch (encoding.kind, encoding.layout) {
    case (.f32, _): return bytes.loadUnaligned(fromByteOffset: 4 * index, as: Float.self)
    case (.f16, _): return half(2 * index)
    case (.bf16, _):
      let bits = bytes.loadUnaligned(fromByteOffset: 2 * index, as: UInt16.self)
      return Float(bitPattern: UInt32(bits) << 16)
    case (_, .rows):
      let groups = (shape.columns + encoding.group - 1) / encoding.group
      let start = row * groups * (encoding.group + 2)
      let scale = half(start + groups * encoding.group + 2 * (column / encoding.group))
      return scale * Float(Int(bytes[start + column]) - 128)
    case (_, .blocks16): return blockNumber(row, column)
    }
  }
  func blockNumber(_ row: Int, _ column: Int) -> Float {
    let groups = (shape.columns + encoding.group - 1) / encoding.group
    let block = (row / 16 * groups + column / encoding.group) * blockByteCount(encoding)
    let (sub, c, r) = (column % encoding.group / 32, column % 32, row % 16)
    if encoding.kind == .int8 {
      let code = Int(bytes[block + 512 * sub + 64 * (c / 4) + 4 * r + c % 4])
      return half(block + 16 * encoding.group + 2 * r) * Float(code - 128)
    }
    let byte = bytes[block + 256 * sub + 64 * (c % 16 / 4) + 4 * r + c % 4]
    let code = Int(c < 16 ? byte & 15 : byte >> 4)
    let scale = half(block + 8 * encoding.group + 2 * r)
    if encoding.kind == .int4 { return scale * Float(code - 8) }
    return half(block + 8 * encoding.group + 32 + 2 * r).addingProduct(Float(code), scale)
  }
  return (0..<shape.rows).flatMap { row in (0..<shape.columns).map { number(row, $0) } }
}
