import PIOFormat
import PIOVision

extension Engine {
  /// Draws what the last turn did to these, its images. Reads the files once more; allocates.
  public func explain(_ paths: [String]) throws(RuntimeError) -> Explanation {
    var images: [Explanation.Image] = []
    for path in paths { images.append(try image(path)) }
    return Explanation(images, pruningStages)
  }

  /// The image as the encoder sees it.
  private func image(_ path: String) throws(RuntimeError) -> Explanation.Image {
    guard let vision = config.vision else { throw .modelTakesNoImages }
    let preparation = ImagePreparation(vision)
    let limits = plan.limits.image(codecBytes: Limits.maxCodecBytes)
    let area = vision.patchSize * vision.patchSize
    // From the heap: a drawing is made behind the answer, and the arena's patches may wait for the next image.
    let patches = UnsafeMutableBufferPointer<Float>.allocate(
      capacity: vision.patchCount * 3 * area)
    defer { patches.deallocate() }
    do {
      let scratch = UnsafeMutableRawBufferPointer.allocate(
        byteCount: imageScratchByteCount(preparation, limits: limits), alignment: 64)
      defer { scratch.deallocate() }
      try prepareImage(
        OpenImage(path: path, limits: limits), preparation, scratch: scratch, into: patches)
    } catch {
      throw .image(error)
    }
    let from = vision.preprocessing
    let (mean, std) = (
      [from.mean.0, from.mean.1, from.mean.2], [from.std.0, from.std.1, from.std.2]
    )
    let side = vision.imageSize
    var rgb = [UInt8](repeating: 0, count: side * side * 3)
    for y in 0..<side {
      for x in 0..<side {
        let patch = y / vision.patchSize * vision.patchesPerSide + x / vision.patchSize
        let inside = y % vision.patchSize * vision.patchSize + x % vision.patchSize
        for channel in 0..<3 {
          let value = patches[(patch * 3 + channel) * area + inside]
          let level = (value * std[channel] + mean[channel]) / from.rescaleFactor
          rgb[(y * side + x) * 3 + channel] = UInt8(min(255, max(0, level.rounded())))
        }
      }
    }
    return Explanation.Image(
      rgb: rgb, side: side, patches: vision.patchesPerSide,
      firstIsClassToken: !vision.dropsClassToken)
  }
}
