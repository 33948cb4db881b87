import CPIOKernels
import PIOFormat
import PIOThreads

/// Reduces an image at its own shape behind its tower: some tokens are handed over, and stand for the others too.
///
/// Tokens are ranked by the attention that their patches receive in a layer where all attend to all: the mean over the
/// queries and the patches, summed over the heads. `visionzip` ranks in the last such layer, and keeps and merges as
/// `VisionZip` says, but compares the tokens' rows where that compares keys, as keys are rotated here. `windowzip` keeps
/// half of the budget by the first such layer, spread over windows of 4 × 4 tokens, and the other half by the last one,
/// wherever they are; each dropped token goes to the kept one whose row has the largest cosine with its own, and a kept row
/// is the mean of itself and what went to it. What is added behind the decoder's first layers is merged alike.
/// Allocates nothing. Sources: Yang et al. 2024, arXiv:2412.04467; PIO-FVLM, arXiv:2602.04657, whose published code for
/// Qwen2.5-VL leaves the merging open.
struct GridZip {
  /// Tokens a side of the windows that share half of the budget.
  static let windowSide = 4

  /// Which layers of the tower are looked at.
  let layers: ObservedLayers
  var rule = ZipRule.visionzip
  let scores: UnsafeMutablePointer<Float>
  /// For each token: itself where it was handed over, else the one that stands for it.
  let targets: UnsafeMutablePointer<Int32>
  /// The tokens that are handed over, ascending.
  let order: UnsafeMutablePointer<Int32>
  private let localScores: UnsafeMutablePointer<Float>
  private let inverseLengths: UnsafeMutablePointer<Float>
  private let attention: UnsafeMutablePointer<Float>
  private let tile: UnsafeMutablePointer<Float>
  private let tileRows: Int
  private let spare: UnsafeMutablePointer<Float>
  private let operations: Operations

  init(
    _ layers: ObservedLayers, operations: Operations, regions: GridZipRegions,
    arena: borrowing Arena
  ) {
    self.layers = layers
    self.operations = operations
    scores = arena.pointer(regions.scores)
    localScores = arena.pointer(regions.localScores)
    inverseLengths = arena.pointer(regions.inverseLengths)
    targets = arena.pointer(regions.targets)
    order = arena.pointer(regions.order)
    attention = arena.pointer(regions.attention)
    tile = arena.pointer(regions.tile)
    tileRows = regions.tileRows
    spare = arena.pointer(regions.spare)
  }

  /// Ranks the tokens by layer `index` where it is one of those looked at: between its projections and its attention.
  ///
  /// `query`: `(patches, dim)`, the patches of a token behind each other, the tokens in the grid's order.
  func observe(layer index: Int, _ query: Rows, _ cache: LayerCache, _ grid: CellGrid) {
    if index == layers.local, rule == .windows { rank(query, cache, grid, into: localScores) }
    if index == layers.global { rank(query, cache, grid, into: scores) }
  }

  private func rank(
    _ query: Rows, _ cache: LayerCache, _ grid: CellGrid, into scores: UnsafeMutablePointer<Float>
  ) {
    let heads = Rows(base: attention, count: cache.headCount, dim: query.count)
    operations.pool.run(
      cache.headCount,
      PatchAttention(
        operations: operations, query: query, cache: cache, attention: heads,
        tile: Rows(base: tile, count: tileRows, dim: query.count), score: .received))
    let perToken = query.count / grid.count
    let share = 1 / Float(query.count * perToken)
    for line in 0..<grid.lines {
      for column in 0..<grid.columns {
        let first = perToken * grid.index(line: line, column: column)
        var sum: Float = 0
        for row in first..<(first + perToken) {
          for head in 0..<heads.count { sum += heads[head][row] }
        }
        scores[line * grid.columns + column] = share * sum
      }
    }
  }

  /// Brings `rows`, `(tokens, dim)` in the image's order, to the rows that are handed over, in front, and what is added to
  /// them later likewise, each at its token. Returns how many there are.
  func reduce(
    _ rows: Rows, _ added: Deepstack.Part, _ request: ZipRequest, _ grid: CellGrid
  ) -> Int {
    precondition(request.rule == rule, "reduce: another rule than was ranked by")
    let marks = TokenMarks(marks: targets, count: grid.count)
    for token in 0..<grid.count { targets[token] = TokenMarks.rest }
    switch rule {
    case .visionzip:
      let dominant = min(grid.count, request.count, request.dominantCount)
      marks.markHighest(dominant, by: scores, as: TokenMarks.dominant)
      marks.pickTargets(min(request.count, grid.count) - dominant)
    case .windows: markByWindows(marks, request.count, grid)
    }
    var count = 0
    for token in 0..<grid.count where targets[token] < TokenMarks.rest {
      order[count] = Int32(token)
      count += 1
    }
    assign(rows, count)
    let merging = RowMerging(zip: self, tokenCount: grid.count, out: spare)
    merging.run(rows, count, operations)
    rows.base.update(from: spare, count: count * rows.dim)
    for level in 0..<added.layerCount {
      merging.run(added[level], count, operations)
      for index in 0..<count {
        added[level][Int(order[index])].update(from: spare + index * rows.dim, count: rows.dim)
      }
    }
    marks.settle()
    return count
  }

  /// Half by windows, to each its part; the other half of all that are left.
  private func markByWindows(_ marks: TokenMarks, _ count: Int, _ grid: CellGrid) {
    let windows = CellGrid(lines: grid.lines, columns: grid.columns, window: Self.windowSide)
    let half = count / 2
    var given = 0
    windows.forEachWindow { cells in
      // What the windows so far are owed, less what they got.
      let owed = (half * cells.upperBound + grid.count / 2) / grid.count
      marks.markHighest(owed - given, by: localScores, as: TokenMarks.target) { token in
        let (line, column) = token.quotientAndRemainder(dividingBy: grid.columns)
        return cells.contains(windows.index(line: line, column: column))
      }
      given = owed
    }
    marks.markHighest(count - half, by: scores, as: TokenMarks.target)
  }

  /// Each of the rest goes to the target whose row is the most like its own.
  private func assign(_ rows: Rows, _ count: Int) {
    operations.pool.run(
      rows.count, RowLengths(operations: operations, rows: rows, inverseLengths: inverseLengths))
    operations.pool.run(
      rows.count,
      NearestRow(
        operations: operations, rows: rows, inverseLengths: inverseLengths, targets: targets,
        order: order, count: count, found: UnsafeMutableRawPointer(localScores)))
    let found = UnsafeMutableRawPointer(localScores).assumingMemoryBound(to: Int32.self)
    for token in 0..<rows.count where targets[token] == TokenMarks.rest {
      targets[token] = found[token]
    }
  }
}

/// Layers of a tower whose attention is looked at; the same where it has one alone.
struct ObservedLayers: Equatable, Sendable {
  let local: Int
  let global: Int

  /// Where all layers attend to all: a quarter of the way, as the first of four is, and the last.
  init(ofAll count: Int) { (local, global) = (max(0, count / 4 - 1), count - 1) }

  /// The first and the last of `full`; nil: there are none.
  init?(of full: [Int]) {
    guard let first = full.min(), let last = full.max() else { return nil }
    (local, global) = (first, last)
  }
}

private struct RowLengths: ParallelBody {
  let operations: Operations
  let rows: Rows
  let inverseLengths: UnsafeMutablePointer<Float>

  func run(task token: Int, thread: Int) {
    var square: Float = 0
    operations.kernels.gemm_f32(
      &square, 1, rows[token], rows.dim, rows[token], rows.dim, 1, 1, rows.dim, nil, 0)
    inverseLengths[token] = square > 0 ? 1 / square.squareRoot() : 0
  }
}

/// For a token of the rest, the target of the largest cosine, the earlier of equals; itself where there is none.
private struct NearestRow: ParallelBody {
  let operations: Operations
  let rows: Rows
  let inverseLengths: UnsafeMutablePointer<Float>
  let targets: UnsafeMutablePointer<Int32>
  let order: UnsafeMutablePointer<Int32>
  let count: Int
  /// So that no thread writes what another one reads.
  let found: UnsafeMutableRawPointer

  func run(task token: Int, thread: Int) {
    guard targets[token] == TokenMarks.rest else { return }
    var (best, most) = (Int32(token), -Float.infinity)
    for index in 0..<count where targets[Int(order[index])] == TokenMarks.target {
      let other = Int(order[index])
      var product: Float = 0
      operations.kernels.gemm_f32(
        &product, 1, rows[token], rows.dim, rows[other], rows.dim, 1, 1, rows.dim, nil, 0)
      // The token's own length is the same for all.
      let cosine = product * inverseLengths[other]
      if cosine > most { (best, most) = (Int32(other), cosine) }
    }
    found.assumingMemoryBound(to: Int32.self)[token] = best
  }
}

/// The rows that are handed over, with what goes to them.
private struct RowMerging {
  let zip: GridZip
  let tokenCount: Int
  let out: UnsafeMutablePointer<Float>

  /// `rows`, `(tokens, dim)`, into the first `count` rows of `out`.
  func run(_ rows: Rows, _ count: Int, _ operations: Operations) {
    operations.pool.run(count, Body(merging: self, rows: rows))
  }

  private struct Body: ParallelBody {
    let merging: RowMerging
    let rows: Rows

    func run(task index: Int, thread: Int) {
      let zip = merging.zip
      let chosen = zip.order[index]
      let row = merging.out + index * rows.dim
      row.update(from: rows[Int(chosen)], count: rows.dim)
      guard zip.targets[Int(chosen)] == TokenMarks.target else { return }
      var members = 0
      for token in 0..<merging.tokenCount where zip.targets[token] == chosen { members += 1 }
      guard members > 0 else { return }
      // `windowzip`: the mean of all; `visionzip`: the row, and the mean of the others.
      let isMean = zip.rule == .windows
      let (own, part): (Float, Float) =
        isMean ? (1 / Float(members + 1), 1 / Float(members + 1)) : (1, 1 / Float(members))
      for i in 0..<rows.dim { row[i] *= own }
      for token in 0..<merging.tokenCount where zip.targets[token] == chosen {
        let other = rows[token]
        for i in 0..<rows.dim { row[i] += part * other[i] }
      }
    }
  }
}

/// What the reduction needs beside the tower's own buffers, for the largest image.
struct GridZipRegions: Equatable, Sendable {
  /// `(heads, patches)`: attention by head.
  let attention: Region<Float>
  /// `(threads · 8, patches)`: attention of a few rows.
  let tile: Region<Float>
  let tileRows: Int
  let scores: Region<Float>
  let localScores: Region<Float>
  let inverseLengths: Region<Float>
  let targets: Region<Int32>
  let order: Region<Int32>
  /// `(tokens, textDim)`: rows while they are merged.
  let spare: Region<Float>

  init(
    _ layout: inout Layout, _ tower: QwenTowerConfig, tokens: Int, textDim: Int, threadCount: Int
  ) {
    let patches = tokens * tower.merge * tower.merge
    attention = layout.reserve(tower.headCount * patches)
    tileRows = threadCount * PatchAttention.tileRows
    tile = layout.reserve(tileRows * patches)
    scores = layout.reserve(tokens)
    localScores = layout.reserve(tokens)
    inverseLengths = layout.reserve(tokens)
    targets = layout.reserve(tokens)
    order = layout.reserve(tokens)
    spare = layout.reserve(tokens * textDim)
  }
}
