import PIOFormat
import PIOVision

extension ImagePreparation {
  init(_ from: ImagePreprocessing, side: Int, patchSize: Int) {
    self.init(side: side, patchSize: patchSize)
    fit = Fit(rawValue: from.fit.rawValue) ?? .crop
    filter = Filter(rawValue: from.filter.rawValue) ?? .bicubic
    resizeTo = from.resizeTo
    rescaleFactor = from.rescaleFactor
    mean = from.mean
    std = from.std
    padColor = from.padColor
  }
}

extension ImagePreprocessing {
  /// The same image made square in another way: at the encoder's size, padded with the mean colour.
  func with(fit: Fit, side: Int) -> ImagePreprocessing {
    guard fit != self.fit else { return self }
    func byte(_ mean: Float) -> UInt8 { UInt8(min(255, max(0, mean * 255))) }
    var changed = self
    changed.fit = fit
    changed.resizeTo = side
    changed.padColor = (byte(mean.0), byte(mean.1), byte(mean.2))
    return changed
  }
}
