import Glibc
import CPIOImage

/// A drawn image, for measurements that want one, whatever it shows.
public enum SampleImage {
  /// Draws slopes, edges and some noise, and calls `body` with the path of a PNG that is gone afterwards.
  public static func withFile<Result>(
    width: Int, height: Int, _ body: (String) throws -> Result
  ) throws -> Result {
    let descriptor = try store(pixels(width, height), width, height)
    defer { close(descriptor) }
    // The file has no name any more, also where the process is killed.
    return try body("/proc/self/fd/\(descriptor)")
  }

  /// The same with an image that shows nothing: grey all over.
  public static func withGreyFile<Result>(_ body: (String) throws -> Result) throws -> Result {
    let side = 32
    let descriptor = try store([UInt8](repeating: 127, count: 3 * side * side), side, side)
    defer { close(descriptor) }
    return try body("/proc/self/fd/\(descriptor)")
  }

  private static func store(
    _ pixels: [UInt8], _ width: Int, _ height: Int
  ) throws(ImageError) -> Int32 {
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let template = "\(folder)/pioedge-image-XXXXXX"
    var name = Array(template.utf8CString)
    var descriptor = mkstemp(&name)
    guard descriptor >= 0 else { throw .cannotOpen(path: template, errno: errno) }
    unlink(&name)
    var error = pio_image_error()
    let code = pio_png_write(
      writeAll, &descriptor, pixels, UInt32(width), UInt32(height), 3 * width, &error)
    guard code == PIO_IMAGE_OK else {
      let failure = errno
      close(descriptor)
      throw .cannotOpen(path: template, errno: failure)
    }
    return descriptor
  }

  private static func pixels(_ width: Int, _ height: Int) -> [UInt8] {
    var noise: UInt32 = 1
    return [UInt8](unsafeUninitializedCapacity: 3 * width * height) { bytes, count in
      for y in 0..<height {
        for x in 0..<width {
          // Numerical Recipes' generator; the upper bits are the good ones.
          noise = noise &* 1_664_525 &+ 1_013_904_223
          let grain = Int(noise >> 28)
          let pixel = 3 * (y * width + x)
          bytes[pixel] = UInt8(x * 239 / width + grain)
          bytes[pixel + 1] = UInt8(y * 239 / height + grain)
          bytes[pixel + 2] = (x / 32 + y / 32) % 2 == 0 ? 200 : 40
        }
      }
      count = 3 * width * height
    }
  }
}

/// Writes a piece to the descriptor that `context` points to.
private let writeAll:
  @convention(c) (
    UnsafeMutableRawPointer?, UnsafePointer<UInt8>?, Int
  ) -> Int32 = { context, bytes, count in
    let descriptor = context!.assumingMemoryBound(to: Int32.self).pointee
    var done = 0
    while done < count {
      let written = write(descriptor, bytes! + done, count - done)
      if written < 0 && errno != EINTR { return 1 }
      done += max(0, written)
    }
    return 0
  }
