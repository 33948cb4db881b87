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
  /// Rows of the tower, of which so many are patches, and tokens that they become.
  public let rowCount: Int
  public let patchCount: Int
  public let tokenCount: Int
  /// Most inputs of the tower that one image is cut into.
  public let inputCount: Int
  let connector: ConnectorWork
  /// How an image is made the tower's inputs, in words.
  public let preparation: String
  /// Matrices of an MLP.
  let mlpMatrices: Int

  init(
    _ tower: some VisionTransformerConfig, tokenCount: Int, inputCount: Int,
    connector: ConnectorWork, preparation: String
  ) {
    layerCount = tower.layerCount
    dim = tower.dim
    hiddenDim = tower.hiddenDim
    headCount = tower.headCount
    inputSide = tower.imageSize
    patchSize = tower.patchSize
    rowCount = tower.positionCount
    patchCount = tower.patchCount
    self.tokenCount = tokenCount
    self.inputCount = inputCount
    self.connector = connector
    self.preparation = preparation
    mlpMatrices = 2
  }

  /// Of the largest image.
  fileprivate init(
    _ tower: QwenTowerConfig, _ range: PixelRange, mlpMatrices: Int, mergerCount: Int = 1
  ) {
    layerCount = tower.layerCount
    (dim, hiddenDim, headCount) = (tower.dim, tower.hiddenDim, tower.headCount)
    patchSize = tower.patchSize
    tokenCount = range.most / (tower.cellSide * tower.cellSide)
    inputSide = range.largestImage(tower).width
    patchCount = tokenCount * tower.merge * tower.merge
    rowCount = patchCount
    inputCount = 1
    connector = ConnectorWork(
      inner: mergerCount * tower.mergedDim * tower.mergedDim,
      perOutput: mergerCount * tower.mergedDim)
    preparation =
      "resized to multiples of \(tower.cellSide), \(range.least) to \(range.most) pixels"
      + " (\(range.filter))"
    self.mlpMatrices = mlpMatrices
  }

  /// Multiply-adds of one layer's weights.
  public var layerMACs: Int { rowCount * (4 * dim * dim + mlpMatrices * dim * hiddenDim) }

  /// Multiply-adds by the connector's weights for one input of the tower, up to rows of `textDim` numbers.
  public func connectorMACs(textDim: Int) -> Int {
    tokenCount * (connector.inner + connector.perOutput * textDim)
  }
}

/// Multiply-adds of a connector for one token: `inner + perOutput · dim`, with dim the decoder's.
struct ConnectorWork: Equatable, Sendable {
  let inner: Int
  let perOutput: Int
}

extension VisionConfig {
  public var summary: VisionSummary {
    switch self {
    case .llava(let config): config.summary
    case .llavaNext(let config): config.summary
    case .smolVLM(let config): config.summary
    case .qwen2VL(let config): VisionSummary(config.tower, config.pixels, mlpMatrices: 2)
    case .qwen25VL(let config): VisionSummary(config.tower, config.pixels, mlpMatrices: 3)
    case .qwen3VL(let config):
      VisionSummary(
        config.tower, config.pixels, mlpMatrices: 2, mergerCount: 1 + config.deepstackLayers.count)
    }
  }

  /// Height and width of an image that gives the decoder the most rows; nil: every image gives as many.
  public var largestImage: PixelSize? {
    switch self {
    case .llava: nil
    case .llavaNext(let config):
      config.resolutions.max { config.rowCount($0) < config.rowCount($1) }
    case .smolVLM(let config): config.largestImage
    case .qwen2VL(let config): config.pixels.largestImage(config.tower)
    case .qwen25VL(let config): config.pixels.largestImage(config.tower)
    case .qwen3VL(let config): config.pixels.largestImage(config.tower)
    }
  }

  /// Whether images of several sizes have several counts of tokens.
  public var hasSizesOfSeveralCounts: Bool { layouts.count > 1 }
}

extension LLaVAConfig {
  fileprivate var summary: VisionSummary {
    VisionSummary(
      tower, tokenCount: visualTokenCount, inputCount: 1, connector: projector.work(tower.dim),
      preparation: preprocessing.words)
  }
}

extension LLaVANextConfig {
  fileprivate var summary: VisionSummary {
    let sizes = resolutions.map { "\($0.height)x\($0.width)" }.joined(separator: ", ")
    return VisionSummary(
      tower, tokenCount: tileTokenCount, inputCount: 1 + (resolutions.map(tileCount).max() ?? 0),
      connector: projector.work(tower.dim),
      preparation: preprocessing.words + ", and cut into tiles at \(sizes)")
  }
}

extension SmolVLMConfig {
  fileprivate var summary: VisionSummary {
    let tiles =
      mostTiles > 1
      ? "longest edge resized to \(longestEdge) (\(preprocessing.filter)), cut into up to"
        + " \(maxTileCount - 1) tiles, and whole"
      : preprocessing.words
    return VisionSummary(
      tower, tokenCount: tileTokenCount, inputCount: maxTileCount,
      connector: ConnectorWork(inner: 0, perOutput: joinedDim),
      preparation: tiles + (tokenLimit.map { ", to keep to \($0) tokens" } ?? ""))
  }

  /// The tiles of the shape that gives the most rows, in pixels.
  fileprivate var largestImage: PixelSize? {
    let shape = shapes.max {
      layoutRows($0.rows, $0.columns) < layoutRows($1.rows, $1.columns)
    }
    guard let shape, shape.rows * shape.columns > 1 else { return nil }
    return PixelSize(
      height: shape.rows * tower.imageSize, width: shape.columns * tower.imageSize)
  }

  private func layoutRows(_ rows: Int, _ columns: Int) -> Int {
    rows * columns * tileTokenCount + markers.tokenCount(rows: rows, columns: columns)
  }
}

extension ProjectorConfig {
  /// Of two matrices.
  fileprivate func work(_ inputDim: Int) -> ConnectorWork {
    ConnectorWork(inner: hiddenDim * inputDim, perOutput: hiddenDim)
  }
}

extension ImagePreprocessing {
  fileprivate var words: String { "resized to \(resizeTo) (\(filter)), \(fit)" }
}

extension PixelRange {
  /// As nearly square as can be.
  fileprivate func largestImage(_ tower: QwenTowerConfig) -> PixelSize {
    let side = Int(Double(most).squareRoot()) / tower.cellSide * tower.cellSide
    return PixelSize(height: side, width: side)
  }
}
