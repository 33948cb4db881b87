import PIOFormat

extension QwenEncoder where Layer == QwenGELULayer {
  init(
    _ config: Qwen3VLConfig, _ regions: QwenRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    let deepstack = config.deepstackLayers.enumerated().map { index, layer in
      QwenDeepstackMerger(index, behind: layer, config.tower, parts)
    }
    self.init(
      config.tower, config.pixels, config.activation, places: LearnedPlaces(config, parts),
      deepstack: deepstack, regions, parts, arena: arena)
  }
}
