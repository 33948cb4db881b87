import PIOBase

/// The input is the start of a safetensors file, header and all; what a header promises behind it
/// is taken to be there, so that generation reaches the checks of sizes and offsets.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = UnsafeRawBufferPointer(start: input, count: count)
  _ = try? JSONReader.parse(bytes, nodeLimit: 10_000)
  let prefix = UnsafeRawBufferPointer(rebasing: bytes.prefix(SafetensorsHeader.prefixByteCount))
  guard let size = try? SafetensorsHeader.byteCount(prefix: prefix, fileByteCount: count) else {
    return 0
  }
  let json = UnsafeRawBufferPointer(rebasing: bytes[8..<8 + size])
  do throws(SafetensorsError) {
    check(try SafetensorsHeader(json: json, fileByteCount: count), count)
  } catch {
    precondition(!error.description.contains("\n"))
    guard case .truncated(let needed, _) = error,
      let header = try? SafetensorsHeader(json: json, fileByteCount: needed)
    else { return 0 }
    check(header, needed)
  }
  return 0
}

/// What is accepted tiles the file.
private func check(_ header: SafetensorsHeader, _ fileByteCount: Int) {
  var end = header.tensors.first?.offset ?? fileByteCount
  for tensor in header.tensors {
    precondition(tensor.offset == end && tensor.byteCount >= 0)
    end += tensor.byteCount
  }
  precondition(end == fileByteCount)
}
