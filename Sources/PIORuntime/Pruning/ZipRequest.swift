import PIOFormat

/// What VisionZip ranks patches by.
public enum PatchScore: String, Sendable, CaseIterable {
  /// The attention that the class token pays to them, as published.
  case cls
  /// The attention that they receive from all rows on average, as published for encoders without a class token.
  case received
}

/// How an encoder's reduction chooses and merges.
enum ZipRule: Equatable, Sendable {
  case visionzip
  /// Half by windows, the rest merged into all that are kept.
  case windows
}

/// How many rows the encoder hands over of one image, and which.
struct ZipRequest {
  /// Rows to hand over: of one image of several it may be none, or all of its tokens.
  let count: Int
  let score: PatchScore
  /// The class token is handed over, ahead of the patches.
  let keepsClassToken: Bool
  /// Rows by their place in the image; else the dominant ones before the contextual ones, as published.
  let sortsByPlace: Bool
  var rule = ZipRule.visionzip

  /// 27 of 32 rows are tokens as they are (the class token is one of them), the others stand for the rest.
  var dominantCount: Int { max(1, (count * 27 + 16) / 32) }

  /// As much as one tile of an image shall hand over, in its place.
  func with(count: Int) -> ZipRequest {
    ZipRequest(
      count: count, score: score, keepsClassToken: keepsClassToken, sortsByPlace: true)
  }
}

/// What the rows of an encoder are to the reduction.
struct ZipShape: Equatable, Sendable {
  /// All of them, the class token's among them.
  let rowCount: Int
  let headCount: Int
  let headDim: Int
  /// Patches a side, and how many of them are one token, along each edge.
  let patchesPerSide: Int
  let shuffle: Int
  /// The first row is no patch.
  let hasClassToken: Bool

  init(_ tower: some VisionTransformerConfig, shuffle: Int, hasClassToken: Bool) {
    rowCount = tower.positionCount
    (headCount, headDim) = (tower.headCount, tower.headDim)
    patchesPerSide = tower.patchesPerSide
    self.shuffle = shuffle
    self.hasClassToken = hasClassToken
  }

  var tokenCount: Int { (patchesPerSide / shuffle) * (patchesPerSide / shuffle) }
  var patchesPerToken: Int { shuffle * shuffle }

  /// The row of patch `part` of a token, its patches counted by lines.
  func row(_ token: Int, _ part: Int) -> Int {
    let (line, column) = token.quotientAndRemainder(dividingBy: patchesPerSide / shuffle)
    let (i, j) = part.quotientAndRemainder(dividingBy: shuffle)
    return (line * shuffle + i) * patchesPerSide + column * shuffle + j + (hasClassToken ? 1 : 0)
  }
}

/// What the reduction needs; it runs when the last layer is done with the encoder's own buffers.
struct ZipRegions: Equatable, Sendable {
  /// `(heads, rows)`: attention by head.
  let attention: Region<Float>
  /// `(threads, 8, rows)`: attention of a few rows.
  let tile: Region<Float>
  /// `(rows, headDim)`: mean of the keys over a token's heads and patches, of length 1.
  let metric: Region<Float>
  /// For each token: its score, and what became of it.
  let scores: Region<Float>
  let targets: Region<Int32>
  /// Which tokens are handed over, in order; -1 is the class token.
  let order: Region<Int32>

  init(_ layout: inout Layout, _ shape: ZipShape, threadCount: Int) {
    let rows = shape.rowCount
    attention = layout.reserve(shape.headCount * rows)
    tile = layout.reserve(threadCount * PatchAttention.tileRows * rows)
    metric = layout.reserve(rows * shape.headDim)
    scores = layout.reserve(rows)
    targets = layout.reserve(rows)
    order = layout.reserve(rows)
  }
}
