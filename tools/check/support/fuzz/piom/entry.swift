import Glibc

private let most = 1 << 21

/// As long as any file here, on 64 bytes, as mappings are: one for all inputs, for the system's zeros took most of the
/// time. Used by one thread.
nonisolated(unsafe) private let memory: UnsafeMutableRawPointer = {
  let base = calloc(1, most + 128)!
  return base + (64 - Int(bitPattern: base) % 64)
}()

/// The input is the first part of a file; tensor data, which opening does not read, is zeros up to
/// the length that the header states.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let input = UnsafeRawBufferPointer(start: input, count: count)
  read(input)
  guard count >= 64, count <= most else { return 0 }
  let stated = input.loadUnaligned(fromByteOffset: 16, as: UInt64.self)
  let size = max(count, Int(min(stated, UInt64(most))))
  let file = UnsafeMutableRawBufferPointer(start: memory, count: size)
  file.copyMemory(from: input)
  seal(file)
  // What lies behind is out of bounds, so that AddressSanitizer sees the end.
  poison(memory + size, 64)
  read(UnsafeRawBufferPointer(file))
  unpoison(memory + size, 64)
  // Zeros again; the checksums lie in the header.
  memset(memory, 0, count)
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
