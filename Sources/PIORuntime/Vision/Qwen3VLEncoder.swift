import PIOFormat

extension QwenEncoder where Layer == QwenGELULayer {
  init(
    _ config: Qwen3VLConfig, _ regions: QwenRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    let (operations, epsilon) = (parts.operations, config.tower.normEpsilon)
    let norm = parts.binding.layerNorm("projector.norm")
    let merger = QwenMerger(config.tower, parts) { x, out in
      operations.layerNorm(x, norm, epsilon: epsilon, into: out)
    }
    let deepstack = config.deepstackLayers.enumerated().map { index, layer in
      QwenDeepstackMerger(index, behind: layer, config.tower, parts)
    }
    let tower = QwenTower(
      config.tower,
      layers: (0..<config.tower.layerCount).map {
        Layer($0, config.activation, epsilon: epsilon, parts.binding)
      },
      merger: merger, places: LearnedPlaces(config, parts), deepstack: deepstack, regions,
      normalization: config.pixels.preprocessing(side: 1), parts, arena: arena,
      attendsToAll: { _ in true })
    self.init(
      config.tower, config.pixels, window: 0, tower: tower,
      observed: ObservedLayers(ofAll: config.tower.layerCount), regions, parts, arena: arena)
  }
}
