import CPIOImage

/// Writes RGB pixels, `(height, width, 3)`, as an 8-bit PNG; an existing file is replaced.
public func writePNG(_ rgb: [UInt8], width: Int, height: Int, path: String) throws(ImageError) {
  precondition(rgb.count == width * height * 3, "writePNG: pixel count")
  var error = pio_image_error()
  let code = rgb.withUnsafeBufferPointer {
    pio_png_write_file(
      path, $0.baseAddress, UInt32(width), UInt32(height), width * 3, &error)
  }
  guard code == PIO_IMAGE_OK else {
    let message = withUnsafeBytes(of: error.message) {
      String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
    throw .cannotWrite(path: path, errno: error.system_errno, message: message)
  }
}
