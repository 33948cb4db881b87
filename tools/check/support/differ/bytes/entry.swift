import Glibc
import PIOBase
@testable import PIOConvert
@testable import PIOFormat
@testable import PIOText

private let files = Files(["tokenizer.json"])

/// For tools/check/differ: what we read in an input, one line of standard output each.
///
/// `S` and a safetensors file: each tensor's name in hexadecimal, type, shape, offset and bytes. `T`, a tokenizer.json,
/// and texts, bytes of 0 between them: each text's ids with and without special tokens. `-` is a refusal.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard count > 0 else { return 0 }
  let rest = UnsafeBufferPointer(start: input + 1, count: count - 1)
  do {
    print(input[0] == UInt8(ascii: "S") ? try tensors(rest) : try ids(rest))
  } catch {
    checkLine(error)
    print("-\(error)")
  }
  fflush(nil)
  return 0
}

private func tensors(_ bytes: UnsafeBufferPointer<UInt8>) throws -> String {
  let bytes = UnsafeRawBufferPointer(bytes)
  let size = try SafetensorsHeader.byteCount(
    prefix: UnsafeRawBufferPointer(rebasing: bytes.prefix(SafetensorsHeader.prefixByteCount)),
    fileByteCount: bytes.count)
  let header = try SafetensorsHeader(
    json: UnsafeRawBufferPointer(rebasing: bytes[8..<8 + size]), fileByteCount: bytes.count)
  return "+"
    + header.tensors.map { tensor in
      let name = tensor.name.utf8.map { String($0, radix: 16) }.joined(separator: ".")
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      return "\(name) \(tensor.type.name) \(shape) \(tensor.offset) \(tensor.byteCount)"
    }.joined(separator: ";")
}

private func ids(_ bytes: UnsafeBufferPointer<UInt8>) throws -> String {
  let parts = bytes.split(separator: 0, omittingEmptySubsequences: false)
  files.fill(whole: UnsafeBufferPointer(rebasing: parts[0]))
  let read = try readTokenizer(
    folder: files.folder, chatTemplate: nil, vocabSize: 5000, imageTokenID: nil)
  let base = UnsafeMutableRawPointer.allocate(byteCount: read.section.count, alignment: 64)
  defer { base.deallocate() }
  read.section.withUnsafeBytes { base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
  let tokenizer = Tokenizer(
    try TokenizerTables(
      UnsafeRawBufferPointer(start: base, count: read.section.count), vocabSize: 5000))
  return "+"
    + parts.dropFirst().flatMap { part in
      let text = String(decoding: part, as: UTF8.self)
      return [true, false].map { special in
        tokenizer.encode(text, addSpecialTokens: special).map(String.init).joined(separator: ",")
      }
    }.joined(separator: ";")
}
