import Glibc

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
    let encoded = try encodePNG(pixels, width: width, height: height)
    let folder = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
    let template = "\(folder)/pioedge-image-XXXXXX"
    var name = Array(template.utf8CString)
    let descriptor = mkstemp(&name)
    guard descriptor >= 0 else { throw .cannotOpen(path: template, errno: errno) }
    unlink(&name)
    let code = write(encoded, to: descriptor)
    guard code == 0 else {
      close(descriptor)
      throw .cannotOpen(path: template, errno: code)
    }
    return descriptor
  }

  /// Returns 0 or an errno.
  private static func write(_ bytes: [UInt8], to descriptor: Int32) -> Int32 {
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.write(descriptor, $0.baseAddress! + done, $0.count - done)
      }
      if count < 0 && errno != EINTR { return errno }
      done += max(0, count)
    }
    return 0
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
