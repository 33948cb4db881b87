import CPIOKernels
import PIOFormat

/// The CLIP vision transformer: an image's patches in, features of the last layer that is used out.
///
/// One input at a time goes through; the buffers are the plan's.
/// Source: Radford et al. 2021, arXiv:2103.00020.
struct CLIPTower {
  let config: CLIPConfig
  /// `(patchCount, 3 · patchSize²)`: where the input is prepared.
  let patches: Rows
  /// Reduces the features where the plan has room for it.
  let zip: VisionZip?
  private let transformer: VisionTransformer
  private let weights: CLIPWeights
  private let stream: WeightStream
  private let operations: Operations

  init(
    _ config: CLIPConfig, _ regions: TowerRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    self.config = config
    weights = parts.binding.clip()
    stream = parts.stream
    operations = parts.operations
    transformer = VisionTransformer(config, regions, parts, arena: arena)
    patches = Rows(
      base: arena.pointer(regions.patches), count: config.patchCount,
      dim: 3 * config.patchSize * config.patchSize)
    zip = regions.zip.map {
      VisionZip(config.zipShape, operations: parts.operations, regions: $0, arena: arena)
    }
  }

  /// Units of weights that the tower has, the first of the file's vision half.
  var unitCount: Int { transformer.unitCount }

  /// Runs the tower on `patches` and returns the features of all rows, `(positionCount, dim)`, the class token first.
  ///
  /// Allocates nothing. Throws where weights cannot be read, or when the work is cancelled.
  func features(_ cancellation: Cancellation?) throws(RuntimeError) -> Rows {
    try embed()
    _ = try transformer.run(cancellation)
    return transformer.hidden
  }

  /// The same, cut to what `request` asks for; `place` says which patches show the image. The milliseconds are those
  /// that choosing took.
  func features(
    _ request: ZipRequest, _ place: TilePlace, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> (features: Rows, milliseconds: Double) {
    guard let zip else { preconditionFailure("the plan has no room to reduce features") }
    try embed()
    let milliseconds = try transformer.run(observing: request.score, by: zip, cancellation)
    let start = ProcessStatus.monotonicMilliseconds
    // The queries are used up.
    let features = zip.reduce(transformer.hidden, request, place, into: transformer.query)
    return (features, milliseconds + ProcessStatus.monotonicMilliseconds - start)
  }

  /// Patches, class token, positions and the norm before the first layer.
  private func embed() throws(RuntimeError) {
    try stream.acquire(0)
    let hidden = transformer.hidden
    forEachChunk(config.patchCount, transformer.chunkRows) { rows in
      var input = LinearInput(patches.rows(rows))
      let out = hidden.rows((rows.lowerBound + 1)..<(rows.upperBound + 1))
      operations.linear(&input, weights.patchEmbedding, out)
    }
    hidden[0].update(from: weights.classEmbedding, count: config.dim)
    operations.forEachRow(config.positionCount, .addTable(hidden, weights.positions))
    transformer.norm(hidden, weights.preNorm, into: hidden)
    stream.release(0)
  }
}

extension CLIPConfig {
  var zipShape: ZipShape { ZipShape(self, shuffle: 1, hasClassToken: true) }
}

private struct CLIPWeights {
  let patchEmbedding: Linear
  let classEmbedding: UnsafePointer<Float>
  let positions: UnsafePointer<Float>
  let preNorm: LayerNormWeights
}

extension Binding {
  fileprivate func clip() -> CLIPWeights {
    CLIPWeights(
      patchEmbedding: matrix("vision.patch_embedding.weight", bias: nil),
      classEmbedding: small("vision.class_embedding"),
      positions: small("vision.position_embedding"),
      preNorm: layerNorm("vision.pre_norm"))
  }
}
