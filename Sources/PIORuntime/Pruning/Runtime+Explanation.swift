import PIOFormat
import PIOVision

extension Runtime {
  /// Draws what the last prompt's stages did to these, its images. Reads them once more; allocates.
  public func explain(_ images: [Image]) throws(RuntimeError) -> Explanation {
    var panels: [Explanation.Panel] = []
    for image in images { panels.append(try panel(image)) }
    return Explanation(panels, pruningStages)
  }

  /// The image as the encoder sees it.
  private func panel(_ image: Image) throws(RuntimeError) -> Explanation.Panel {
    guard let encoder = model.encoder, case .open(let file, let loaded) = try model.open(image)
    else { throw .modelTakesNoImages }
    let preparation = encoder.overviewPreparation
    // From the heap: a drawing is made behind the answer, and the arena's patches may wait for the next image.
    let patches = UnsafeMutableBufferPointer<Float>.allocate(
      capacity: preparation.patchCount * preparation.patchDim)
    defer { patches.deallocate() }
    let scratch = UnsafeMutableRawBufferPointer.allocate(
      byteCount: imageScratchByteCount(preparation, limits: file.limits), alignment: 64)
    defer { scratch.deallocate() }
    do {
      try prepareImage(file, preparation, scratch: scratch, into: patches)
    } catch {
      throw .image(error)
    }
    return Explanation.Panel(
      rgb: rgb(patches, preparation), side: preparation.seenSide, layout: loaded.layout)
  }

  /// Patches as pixels again, `(y, x, 3)`.
  private func rgb(
    _ patches: UnsafeMutableBufferPointer<Float>, _ preparation: ImagePreparation
  ) -> [UInt8] {
    let (side, size) = (preparation.seenSide, preparation.patchSize)
    let area = size * size
    let mean = [preparation.steps.mean.0, preparation.steps.mean.1, preparation.steps.mean.2]
    let std = [preparation.steps.std.0, preparation.steps.std.1, preparation.steps.std.2]
    var rgb = [UInt8](repeating: 0, count: side * side * 3)
    for y in 0..<side {
      for x in 0..<side {
        let patch = y / size * preparation.patchesPerSide + x / size
        let inside = y % size * size + x % size
        for channel in 0..<3 {
          let value = patches[(patch * 3 + channel) * area + inside]
          let level = (value * std[channel] + mean[channel]) / preparation.steps.rescaleFactor
          rgb[(y * side + x) * 3 + channel] = UInt8(min(255, max(0, level.rounded())))
        }
      }
    }
    return rgb
  }
}

extension ImagePreparation {
  /// Pixels a side that lie in a patch.
  fileprivate var seenSide: Int { patchesPerSide * patchSize }
}
