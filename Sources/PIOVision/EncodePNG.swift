import CPIOImage

/// RGB pixels, `(height, width, 3)`, as the bytes of an 8-bit PNG.
///
/// Throws where libpng refuses the size or gets no memory.
public func encodePNG(_ rgb: [UInt8], width: Int, height: Int) throws(ImageError) -> [UInt8] {
  precondition(rgb.count == width * height * 3, "encodePNG: pixel count")
  var encoded: [UInt8] = []
  var error = pio_image_error()
  let code = withUnsafeMutablePointer(to: &encoded) { encoded in
    pio_png_write(append, encoded, rgb, UInt32(width), UInt32(height), width * 3, &error)
  }
  guard code == PIO_IMAGE_OK else {
    let message = withUnsafeBytes(of: error.message) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    throw .cannotEncode(width: width, height: height, message: message)
  }
  return encoded
}

/// Appends a piece to the array that `context` points to.
private let append:
  @convention(c) (
    UnsafeMutableRawPointer?, UnsafePointer<UInt8>?, Int
  ) -> Int32 = { context, bytes, count in
    context!.assumingMemoryBound(to: [UInt8].self).pointee
      .append(contentsOf: UnsafeBufferPointer(start: bytes, count: count))
    return 0
  }
