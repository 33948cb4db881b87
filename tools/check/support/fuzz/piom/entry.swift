import Glibc

/// The input is the first part of a file; tensor data, which opening does not read, is zeros up to
/// the length that the header states.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let input = UnsafeRawBufferPointer(start: input, count: count)
  read(input)
  guard count >= 64 else { return 0 }
  let stated = input.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
  let size = max(count, Int(min(stated, 1 << 21)))
  // Zeros straight from the system: filling them would take most of the time. On 64 bytes, as mappings are, and what
  // lies behind is out of bounds, so that AddressSanitizer sees the end.
  let base = calloc(1, size + 64)!
  defer { free(base) }
  let start = base + (64 - Int(bitPattern: base) % 64)
  let file = UnsafeMutableRawBufferPointer(start: start, count: size)
  poison(start + size, base + size + 64 - (start + size))
  defer { unpoison(start + size, base + size + 64 - (start + size)) }
  file.copyMemory(from: input)
  seal(file)
  read(UnsafeRawBufferPointer(file))
  return 0
}

@_silgen_name("__asan_poison_memory_region")
private func poison(_ start: UnsafeMutableRawPointer, _ count: Int)

@_silgen_name("__asan_unpoison_memory_region")
private func unpoison(_ start: UnsafeMutableRawPointer, _ count: Int)

/// What is accepted must lie within the file.
private func read(_ bytes: UnsafeRawBufferPointer) {
  guard let contents = try? ModelContents(bytes) else { return }
  var sum = 0
  for tensor in contents.tensors {
    sum &+= Int(bytes.baseAddress!.load(fromByteOffset: tensor.offset, as: UInt8.self))
    let last = tensor.offset + tensor.byteCount - 1
    sum &+= Int(bytes.baseAddress!.load(fromByteOffset: last, as: UInt8.self))
  }
  for byte in bytes[contents.header.tokenizerRange] { sum &+= Int(byte) }
  precondition(sum >= 0)
}

/// Makes the checksums right, so that generation reaches the checks behind them.
private func seal(_ file: UnsafeMutableRawBufferPointer) {
  func count(_ offset: Int) -> Int {
    Int(file.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
  }
  var header = ModelFileHeader()
  header.tensorCount = count(24)
  header.namesByteCount = count(28)
  header.metadataByteCount = count(32)
  header.tokenizerByteCount = count(36)
  func store(_ range: Range<Int>, at offset: Int) {
    guard range.upperBound <= file.count else { return }
    let hash = XXH64.hash(UnsafeRawBufferPointer(rebasing: file[range]))
    file.storeBytes(of: hash, toByteOffset: offset, as: UInt64.self)
  }
  store(header.tokenizerRange, at: 40)
  store(64..<header.metadataEnd, at: 48)
  store(0..<56, at: 56)
}
