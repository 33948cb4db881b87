import PIOFormat

extension QwenEncoder where Layer == QwenGELULayer {
  init(
    _ config: Qwen2VLConfig, _ regions: QwenRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    let (operations, epsilon) = (parts.operations, config.tower.normEpsilon)
    let norm = parts.binding.layerNorm("projector.norm")
    let merger = QwenMerger(config.tower, parts) { x, out in
      operations.layerNorm(x, norm, epsilon: epsilon, into: out)
    }
    let tower = QwenTower(
      config.tower,
      layers: (0..<config.tower.layerCount).map {
        Layer($0, config.activation, epsilon: epsilon, parts.binding)
      },
      merger: merger, regions, normalization: config.pixels.preprocessing(side: 1), parts,
      arena: arena, attendsToAll: { _ in true })
    self.init(
      config.tower, config.pixels, window: 0, tower: tower,
      observed: ObservedLayers(ofAll: config.tower.layerCount), regions, parts, arena: arena)
  }
}
