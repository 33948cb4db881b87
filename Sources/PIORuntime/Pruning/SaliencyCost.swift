import PIOFormat

extension Saliency {
  /// Multiply-adds of the matrix products from the numbers alone: `rows` up to the last proxy row, `visualRows` of which are ranked.
  static func macs(
    _ config: TextConfig, rows: Int, earlierRows: Int = 0, proxies: Int, visualRows: Int
  ) -> Int {
    let keyDim = config.kvHeadCount * config.headDim
    let queryDim = config.headCount * config.headDim
    let seen = earlierRows + rows
    let forward = 2 * rows * config.dim * keyDim + 2 * proxies * queryDim * seen
    let block = 2 * config.dim * queryDim + 3 * config.dim * config.hiddenDim
    // Back through the output and the MLP once more, and through the values by heads.
    let back = config.dim * queryDim + 3 * config.dim * config.hiddenDim + queryDim * config.dim
    let perRow =
      (config.queryKeyNorm ? 2 : 1) * config.dim * keyDim + config.headCount * proxies * config.dim
      + 2 * proxies * queryDim
    return forward + proxies * (block + back + 2 * config.vocabSize * config.dim)
      + visualRows * perRow
  }
}
