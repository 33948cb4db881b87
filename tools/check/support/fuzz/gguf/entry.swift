/// The input is the start of a GGUF file; the data its directory promises is taken to be there, so
/// that generation reaches the checks of sizes and offsets.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = Array(UnsafeBufferPointer(start: input, count: count))
  do throws(GGUFError) {
    check(try GGUFHeader(bytes, fileByteCount: count), count)
  } catch {
    precondition(!error.description.contains("\n"))
    guard case .truncated(_, let needed, let found) = error else { return 0 }
    precondition(needed > found && found <= count)
    if let header = try? GGUFHeader(bytes, fileByteCount: needed) { check(header, needed) }
  }
  return 0
}

/// What is accepted lies in the file, one tensor behind the other, and every value can be read.
private func check(_ header: GGUFHeader, _ fileByteCount: Int) {
  var end = 0
  for tensor in header.tensors {
    precondition(tensor.offset >= end && tensor.byteCount > 0)
    end = tensor.offset + tensor.byteCount
    let type = GGMLType(tensor.typeNumber)!
    let count = tensor.shape.reduce(1, *)
    precondition(tensor.shape.last! % type.weights == 0)
    precondition(count / type.weights * type.bytes == tensor.byteCount)
  }
  precondition(end <= fileByteCount)
  for value in header.values.values {
    let strings = header.strings(value), numbers = header.numbers(value)
    if case .array(_, let count, _) = value {
      precondition((strings?.count ?? numbers?.count) == count)
    }
  }
}
