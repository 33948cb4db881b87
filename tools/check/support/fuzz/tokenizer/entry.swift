import PIOBase
@testable import PIOFormat
@testable import PIOText

/// The input: a byte n, a text of 2 n bytes, a tokenizer section. What is accepted encodes any text to ids of its own,
/// and decodes them.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard count > 0, 1 + 2 * Int(input[0]) <= count else { return 0 }
  let split = 1 + 2 * Int(input[0])
  let text = String(
    decoding: UnsafeBufferPointer(start: input + 1, count: split - 1), as: UTF8.self)
  // On 64 bytes, as a section is in a file, and of the exact size.
  let size = count - split
  let base = UnsafeMutableRawPointer.allocate(byteCount: max(1, size), alignment: 64)
  defer { base.deallocate() }
  base.copyMemory(from: input + split, byteCount: size)
  let section = UnsafeRawBufferPointer(start: base, count: size)
  do {
    check(try TokenizerTables(section, vocabSize: 512), text)
  } catch {
    checkLine(error)
  }
  return 0
}

private func check(_ tables: TokenizerTables, _ text: String) {
  let tokenizer = Tokenizer(tables, control: [1])
  let ids = tokenizer.encode(text, addSpecialTokens: true)
  for id in ids { precondition(id >= 0 && Int(id) < 512, "an id outside of the vocabulary") }
  _ = tokenizer.decode(ids, skipSpecialTokens: false)
  for id in tokenizer.encode([.text(text)], addSpecialTokens: false) {
    precondition(id >= 0 && Int(id) < 512, "an id outside of the vocabulary")
  }
  let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(
    capacity: tokenizer.maxPieceByteCount + 16)
  defer { buffer.deallocate() }
  var stream = TextStream(tokenizer, buffer: buffer)
  var streamed: [UInt8] = []
  for id in ids { streamed += stream.next(id) }
  streamed += stream.finish()
  precondition(String(validating: streamed, as: UTF8.self) != nil, "half a character")
}
