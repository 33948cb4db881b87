import CPIOKernels
import PIOFormat

/// Joins s × s neighbouring patches into one token, `(token, i, j, dim)` with (i, j) the patch's line and column in its token, and makes
/// rows of the decoder of them by one matrix.
///
/// Source: Laurençon et al. 2024, arXiv:2408.12637, after Shi et al. 2016, arXiv:1609.05158.
struct PixelShuffle {
  private let postNorm: LayerNormWeights
  private let matrix: Linear
  private let operations: Operations
  private let transformer: VisionTransformer
  private let shuffle: Int
  private let patchesPerSide: Int
  /// Joined features; `dim` = s² · the tower's.
  private let tokenCount: Int
  private let joinedDim: Int

  init(_ config: SmolVLMConfig, _ transformer: VisionTransformer, _ parts: VisionParts) {
    postNorm = parts.binding.layerNorm("vision.post_norm")
    matrix = parts.binding.linear("projector.linear")
    operations = parts.operations
    self.transformer = transformer
    shuffle = config.shuffle
    patchesPerSide = config.tower.patchesPerSide
    (tokenCount, joinedDim) = (config.tileTokenCount, config.joinedDim)
  }

  /// Takes the last norm of the tower's output and joins its patches. Returns `(tokens, joinedDim)` in the tower's queries,
  /// which are used up; the output itself is free then.
  func join() -> Rows {
    let hidden = transformer.hidden
    transformer.norm(hidden, postNorm, into: hidden)
    let joined = transformer.query.reshaped(count: tokenCount, dim: joinedDim)
    let perSide = patchesPerSide / shuffle
    for token in 0..<tokenCount {
      let (line, column) = token.quotientAndRemainder(dividingBy: perSide)
      for i in 0..<shuffle {
        // The patches of a line of the token are neighbours in the image's line.
        let first = (line * shuffle + i) * patchesPerSide + column * shuffle
        (joined[token] + i * shuffle * hidden.dim).update(
          from: hidden[first], count: shuffle * hidden.dim)
      }
    }
    return joined
  }

  /// Where as many joined features have room while `join`'s are read.
  var spare: Rows { transformer.hidden.reshaped(count: tokenCount, dim: joinedDim) }

  /// `features`: `(n, joinedDim)`; `out`: `(n, dim of the decoder)`. Allocates nothing.
  func project(_ features: Rows, into out: Rows) {
    forEachChunk(out.count, transformer.chunkRows) { rows in
      var input = LinearInput(features.rows(rows))
      operations.linear(&input, matrix, out.rows(rows))
    }
  }
}
