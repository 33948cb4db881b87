import CPIOKernels
import PIOFormat

/// The SigLIP vision transformer: an image's patches in, the last layer's output out, its norm still to be taken.
///
/// One input at a time goes through; the buffers are the plan's.
/// Source: Zhai et al. 2023, arXiv:2303.15343.
struct SigLIPTower {
  let config: SigLIPConfig
  /// `(patchCount, 3 · patchSize²)`: where the input is prepared.
  let patches: Rows
  let transformer: VisionTransformer
  private let weights: SigLIPWeights
  private let stream: WeightStream
  private let operations: Operations

  init(
    _ config: SigLIPConfig, _ regions: TowerRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    self.config = config
    weights = parts.binding.siglip()
    stream = parts.stream
    operations = parts.operations
    transformer = VisionTransformer(config, regions, parts, arena: arena)
    patches = Rows(
      base: arena.pointer(regions.patches), count: config.patchCount,
      dim: 3 * config.patchSize * config.patchSize)
  }

  /// Runs the tower on `patches`; the layers' output, `(patchCount, dim)`, is `transformer.hidden`. With a score, `zip` ranks
  /// the patches in the last layer; returns the milliseconds that it took.
  ///
  /// Allocates nothing. Throws where weights cannot be read, or when the work is cancelled.
  func run(
    observing score: PatchScore?, by zip: VisionZip?, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Double {
    try embed()
    return try transformer.run(observing: score, by: zip, cancellation)
  }

  /// Patches and positions.
  private func embed() throws(RuntimeError) {
    try stream.acquire(0)
    let hidden = transformer.hidden
    forEachChunk(config.patchCount, transformer.chunkRows) { rows in
      var input = LinearInput(patches.rows(rows))
      operations.linear(&input, weights.patchEmbedding, hidden.rows(rows))
    }
    operations.forEachRow(config.patchCount, .addTable(hidden, weights.positions))
    stream.release(0)
  }
}

private struct SigLIPWeights {
  let patchEmbedding: Linear
  let positions: UnsafePointer<Float>
}

extension Binding {
  fileprivate func siglip() -> SigLIPWeights {
    SigLIPWeights(
      patchEmbedding: linear("vision.patch_embedding"),
      positions: small("vision.position_embedding"))
  }
}
