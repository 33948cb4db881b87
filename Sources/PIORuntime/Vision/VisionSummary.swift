import PIOBase
import PIOFormat

/// What can be said of a vision encoder whatever its family: for reports.
public struct VisionSummary: Equatable, Sendable {
  public let layerCount: Int
  public let dim: Int
  public let hiddenDim: Int
  public let headCount: Int
  /// Pixels a side of what the tower sees at a time, and of a patch.
  public let inputSide: Int
  public let patchSize: Int
  /// Most inputs of the tower that one image is cut into.
  public let inputCount: Int
  /// What an image may be resized to before it is cut; empty: it is not cut.
  public let resolutions: [PixelSize]

  init(_ tower: CLIPConfig, inputCount: Int, resolutions: [PixelSize]) {
    layerCount = tower.layerCount
    dim = tower.dim
    hiddenDim = tower.hiddenDim
    headCount = tower.headCount
    inputSide = tower.imageSize
    patchSize = tower.patchSize
    self.inputCount = inputCount
    self.resolutions = resolutions
  }
}

extension VisionConfig {
  public var summary: VisionSummary {
    switch self {
    case .llava(let config): VisionSummary(config.tower, inputCount: 1, resolutions: [])
    case .llavaNext(let config):
      VisionSummary(
        config.tower, inputCount: 1 + (config.resolutions.map(config.tileCount).max() ?? 0),
        resolutions: config.resolutions)
    }
  }

  /// Height and width of an image that gives the decoder the most rows; nil: every image gives as many.
  public var largestImage: PixelSize? {
    guard case .llavaNext(let config) = self else { return nil }
    return config.resolutions.max { config.rowCount($0) < config.rowCount($1) }
  }

  /// Whether images of several sizes have several counts of tokens.
  public var hasSizesOfSeveralCounts: Bool { layouts.count > 1 }
}
