import PIOFormat

extension QwenEncoder where Layer == QwenGELULayer {
  init(
    _ config: Qwen2VLConfig, _ regions: QwenRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    self.init(config.tower, config.pixels, config.activation, regions, parts, arena: arena)
  }
}
