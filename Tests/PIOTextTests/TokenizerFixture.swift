import PIOBase
import Foundation
import PIOFormat
import PIOText

@testable import PIOConvert

/// The repository's root.
let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

let goldenFolder = root.appendingPathComponent("Tests/Golden/tokenizers")

/// A section in memory as a file would hold it: on 64 bytes, its views alive with it.
final class SectionMemory {
  let bytes: UnsafeMutableRawBufferPointer

  init(_ section: [UInt8]) {
    bytes = .allocate(byteCount: max(1, section.count), alignment: 64)
    bytes.copyBytes(from: section)
  }

  deinit { bytes.deallocate() }

  func tables(vocabSize: Int) throws -> TokenizerTables {
    try TokenizerTables(UnsafeRawBufferPointer(bytes), vocabSize: vocabSize)
  }

  func tokenizer(vocabSize: Int) throws -> Tokenizer {
    Tokenizer(try tables(vocabSize: vocabSize))
  }
}

/// A converted tokenizer and what the reference does with the same texts.
struct GoldenTokenizer {
  static let names = [
    "demo", "gpt2", "gpt2_prefix", "llama3", "qwen2", "digits", "digit_runs", "llama2",
    "metaspace_first", "metaspace_always", "metaspace_never", "gguf_spm", "gguf_gpt2",
    "gguf_qwen2",
  ]
  static let texts = try! JSONDecoder().decode(
    [String].self, from: Data(contentsOf: goldenFolder.appendingPathComponent("texts.json")))

  let memory: SectionMemory
  let tokenizer: Tokenizer
  let ids: [[Int32]]
  let bare: [[Int32]]
  /// By index of the text, where it is not the text itself.
  let decoded: [String: String]
  let sequences: [(ids: [Int32], text: String, withSpecials: String)]

  init(_ name: String) throws {
    let converted = try convert(name)
    memory = SectionMemory(converted.section)
    tokenizer = try memory.tokenizer(vocabSize: 1024)
    let file = goldenFolder.appendingPathComponent("\(name)/golden.json")
    let golden = try JSONDecoder().decode(Golden.self, from: Data(contentsOf: file))
    ids = golden.ids.map(unpacked)
    bare = golden.bare.map(unpacked)
    decoded = golden.decoded
    sequences = golden.sequences.map { ($0.ids, $0.text, $0.withSpecials) }
  }

  private struct Golden: Decodable {
    let ids: [String]
    let bare: [String]
    let decoded: [String: String]
    let sequences: [Sequence]
  }

  private struct Sequence: Decodable {
    let ids: [Int32]
    let text: String
    let withSpecials: String
    init(from decoder: any Decoder) throws {
      var values = try decoder.unkeyedContainer()
      ids = unpacked(try values.decode(String.self))
      text = try values.decode(String.self)
      withSpecials = try values.decode(String.self)
    }
  }
}

/// Two digits of base 32 an id.
private func unpacked(_ text: String) -> [Int32] {
  let digits = Array(text.utf8)
  return stride(from: 0, to: digits.count, by: 2).map {
    Int32(String(decoding: digits[$0...$0 + 1], as: UTF8.self), radix: 32)!
  }
}

func convert(_ name: String) throws -> ConvertedTokenizer {
  if name.hasPrefix("gguf_") {
    let path = goldenFolder.appendingPathComponent("\(name)/tokenizer.gguf").path
    return try GGUFFile(path: path).tokenizer(
      chatTemplate: "plain", vocabSize: 1024, hasImages: false)
  }
  let folder =
    name == "demo"
    ? root.appendingPathComponent("tools/demo/checkpoint")
    : goldenFolder.appendingPathComponent(name)
  return try readTokenizer(
    folder: folder.path, chatTemplate: name == "demo" ? nil : "plain", vocabSize: 1024,
    imageTokenID: name == "demo" ? 978 : nil)
}

/// Bytes, because Swift strings that are canonically equivalent are equal.
func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

/// Small, seeded, the same everywhere.
struct SplitMix: RandomNumberGenerator {
  var state: UInt64
  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
