import Foundation
import Testing

@testable import PIOFormat

private let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent()
private let corpus = root.appendingPathComponent("tools/check/support/fuzz/piom/corpus")

/// The fuzzer starts from files that are accepted; `PIOEDGE_RECORD=1` writes them anew.
@Test(arguments: [("text", UInt64(9), false), ("vision", 3, true), ("split", 2, true)])
func theFuzzersCorpusIsWhatTheWriterWrites(name: String, seed: UInt64, vision: Bool) throws {
  let forge = Forge(try Sample(seed: seed, vision: vision).bytes())
  let front = Array(forge.bytes[..<forge.tokenizerEnd])
  let path = corpus.appendingPathComponent(name)
  if ProcessInfo.processInfo.environment["PIOEDGE_RECORD"] == "1" {
    try Data(front).write(to: path)
  }
  try #expect(readFile(path.path) == front)
  // The fuzzer's entry makes no longer files.
  #expect(forge.bytes.count <= 1 << 21)
}

@Test func theSpecificationsExampleIsThatFilesHeader() throws {
  let header = try readFile(corpus.appendingPathComponent("text").path).prefix(64)
  let digits = header.map { ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true) }
  let specification = try readFile(root.appendingPathComponent("formats/PIOM.md").path)
  let text = String(decoding: specification, as: UTF8.self)
  for line in 0..<4 {
    #expect(text.contains(digits[16 * line..<16 * line + 16].joined(separator: " ")))
  }
}
