import Glibc

/// Why an image cannot be used. `description` is one line: which image, what is wrong, what helps.
public enum ImageError: Error, Equatable, CustomStringConvertible {
  case cannotOpen(path: String, errno: Int32)
  /// A folder, a pipe or a device.
  case notAFile(path: String)
  case unknownFormat(path: String, found: String)
  case truncated(path: String)
  case damaged(path: String, message: String)
  case unsupported(path: String, message: String)
  case tooManyPixels(path: String, width: Int, height: Int, maxPixels: Int)
  /// One edge is more than 200 times as long as the other, and the model takes no such image.
  case tooLong(path: String, width: Int, height: Int)
  case edgeTooLong(path: String, width: Int, height: Int, maxEdge: Int)
  /// `neededBytes` is 0 where the codec does not say.
  case codecMemory(path: String, message: String, neededBytes: Int, maxBytes: Int)
  case cannotEncode(width: Int, height: Int, message: String)
  case badPreparation(what: String, found: String)

  public var description: String {
    switch self {
    case .cannotOpen(let path, let errno):
      "\(path): cannot open the image: \(String(cString: strerror(errno)))"
    case .cannotEncode(let width, let height, let message):
      "cannot make a PNG of \(width) x \(height) pixels: \(message)"
    case .notAFile(let path):
      "\(path): not a regular file"
    case .unknownFormat(let path, let found):
      "\(path): not an image this program reads: \(found)"
    case .truncated(let path):
      "\(path): the image is truncated: the file ends before its last row"
    case .damaged(let path, let message):
      "\(path): the image is damaged: \(message)"
    case .unsupported(let path, let message):
      "\(path): a kind of image that is not supported: \(message)"
    case .tooManyPixels(let path, let width, let height, let maxPixels):
      "\(path): \(width) x \(height) pixels are more than \(maxPixels)"
        + " (raise --max-image-pixels, or make the image smaller)"
    case .edgeTooLong(let path, let width, let height, let maxEdge):
      "\(path): \(width) x \(height) pixels: an edge is longer than \(maxEdge); raise --max-image-pixels"
    case .tooLong(let path, let width, let height):
      "\(path): \(width) x \(height) pixels: this model takes no image more than 200 times as long as wide"
    case .codecMemory(let path, let message, let neededBytes, let maxBytes):
      "\(path): decoding would take \(neededBytes > 0 ? "\(neededBytes)" : "more") bytes of"
        + " \(maxBytes) allowed: \(message) (save it as a baseline JPEG or smaller, or raise --codec-memory)"
    case .badPreparation(let what, let found):
      "the model's image preprocessing has an impossible \(what): \(found)"
    }
  }
}
