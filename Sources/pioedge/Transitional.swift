import PIOBase
import PIOFormat

// Transitional: one family's numbers asked of any. Goes when the runtime has a file for each family.
extension VisionConfig {
  var tower: CLIPConfig {
    switch self {
    case .llava(let llava): llava.tower
    case .llavaNext(let next): next.tower
    }
  }

  private var projector: ProjectorConfig {
    switch self {
    case .llava(let llava): llava.projector
    case .llavaNext(let next): next.projector
    }
  }

  var isTiled: Bool { !resolutions.isEmpty }

  public var resolutions: [PixelSize] {
    if case .llavaNext(let next) = self { next.resolutions } else { [] }
  }

  public var dropsClassToken: Bool {
    if case .llava(let llava) = self { llava.dropsClassToken } else { true }
  }

  public func tileCount(_ resolution: PixelSize) -> Int {
    if case .llavaNext(let next) = self { next.tileCount(resolution) } else { 1 }
  }

  public func rowCount(_ resolution: PixelSize) -> Int {
    if case .llavaNext(let next) = self { next.rowCount(resolution) } else { 0 }
  }

  public var visualTokenCount: Int {
    switch self {
    case .llava(let llava): llava.visualTokenCount
    case .llavaNext(let next): next.tileTokenCount
    }
  }

  public var maxVisualRowCount: Int { maxRowCount }

  public var imageSize: Int { tower.imageSize }
  public var patchSize: Int { tower.patchSize }
  public var dim: Int { tower.dim }
  public var hiddenDim: Int { tower.hiddenDim }
  public var layerCount: Int { tower.layerCount }
  public var headCount: Int { tower.headCount }
  public var headDim: Int { tower.headDim }
  public var layerNormEpsilon: Float { tower.layerNormEpsilon }
  public var activation: Activation { tower.activation }
  public var patchesPerSide: Int { tower.patchesPerSide }
  public var patchCount: Int { tower.patchCount }
  public var positionCount: Int { tower.positionCount }
  public var projectorHiddenDim: Int { projector.hiddenDim }
  public var projectorActivation: Activation { projector.activation }
  public var projectorBias: Bool { projector.bias }
}
