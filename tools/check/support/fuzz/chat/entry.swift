import PIOBase
@testable import PIOConvert
@testable import PIOFormat
@testable import PIOText

private let files = Files([
  "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json",
  "generation_config.json",
])

/// The input: the files that say how a checkpoint reads text. What is accepted is a section that the runtime takes.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  files.fill(UnsafeBufferPointer(start: input, count: count))
  do {
    check(
      try readTokenizer(folder: files.folder, chatTemplate: nil, vocabSize: 600, imageTokenID: nil))
  } catch {
    checkLine(error)
  }
  return 0
}

private func check(_ read: ConvertedTokenizer) {
  let base = UnsafeMutableRawPointer.allocate(byteCount: read.section.count, alignment: 64)
  defer { base.deallocate() }
  read.section.withUnsafeBytes { base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
  let tables = try! TokenizerTables(
    UnsafeRawBufferPointer(start: base, count: read.section.count), vocabSize: 600)
  let tokenizer = Tokenizer(tables)
  let ids = tokenizer.encode("Ein Bild, 3 Töne – <s>\n", addSpecialTokens: true)
  for id in ids { precondition(id >= 0 && id < 600) }
  _ = tokenizer.decode(ids, skipSpecialTokens: true)
}
