import PIOBase
import PIOFormat
import PIOVision

/// How an image was made the vision encoder's input: boxes in an answer refer to what it was resized to.
public struct PreparedImage: Equatable, Sendable {
  /// Upright, as it is in the file.
  public let size: PixelSize
  /// All of it, before it is cropped, padded or cut into tiles.
  public let resized: PixelSize
  /// Inputs of the encoder.
  public let tileCount: Int
  /// Before anything is pruned.
  public let visualTokenCount: Int

  init(_ image: LoadedImage, _ vision: VisionConfig) {
    size = image.size
    visualTokenCount = image.layout.tokenCount
    switch vision {
    case .llava(let config):
      resized = config.preprocessing.resized(image.size)
      tileCount = 1
    case .llavaNext(let config):
      let tiles = config.tiles(image.size)
      (resized, tileCount) = (tiles.resized, tiles.tileCount)
    case .smolVLM(let config):
      let split = config.split(image.size)
      (resized, tileCount) = (split.canvas, split.tileCount)
    case .qwen2VL(let config):
      resized = config.pixels.resize(image.size, config.tower) ?? image.size
      tileCount = 1
    case .qwen25VL(let config):
      resized = config.pixels.resize(image.size, config.tower) ?? image.size
      tileCount = 1
    case .qwen3VL(let config):
      resized = config.pixels.resize(image.size, config.tower) ?? image.size
      tileCount = 1
    }
  }
}

extension ImagePreprocessing {
  /// Padding is none of the image.
  fileprivate func resized(_ size: PixelSize) -> PixelSize {
    let edge =
      switch fit {
      case .crop: min(size.height, size.width)
      case .pad: max(size.height, size.width)
      case .stretch: 0
      }
    guard edge > 0 else { return PixelSize(height: resizeTo, width: resizeTo) }
    return PixelSize(height: resizeTo * size.height / edge, width: resizeTo * size.width / edge)
  }
}
