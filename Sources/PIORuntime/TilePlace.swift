import PIOVision

/// Where a tile's patches lie in the image, and which of them show it.
struct TilePlace {
  /// Of the tile's own, `0..<perSide`.
  let rows: Range<Int>
  let columns: Range<Int>
  /// The line, and the column in it, of the tile's first patch; below 0 where that is left out. Of the tile that shows
  /// the image whole: nothing.
  let firstLine: Int
  let firstColumn: Int
  private let perSide: Int
  private let lineLength: Int
  let isWhole: Bool

  /// `tile` counts from 0, the one that shows the image whole.
  init(_ tile: Int, _ layout: TileLayout, _ grid: PatchLines, perSide: Int) {
    self.perSide = perSide
    lineLength = grid.columns.count
    isWhole = tile == 0
    guard tile > 0 else {
      (rows, columns, firstLine, firstColumn) = (0..<perSide, 0..<perSide, 0, 0)
      return
    }
    let (row, column) = (tile - 1).quotientAndRemainder(dividingBy: layout.columns)
    firstLine = row * perSide - grid.rows.lowerBound
    firstColumn = column * perSide - grid.columns.lowerBound
    func own(_ first: Int, _ count: Int) -> Range<Int> {
      let low = min(max(0, -first), perSide)
      return low..<max(low, min(perSide, count - first))
    }
    rows = own(firstLine, grid.rows.count)
    columns = own(firstColumn, grid.columns.count)
  }

  var patchCount: Int { rows.count * columns.count }

  /// Which of the image's tokens a patch is; nil: padding.
  func token(of patch: Int) -> Int? {
    let (row, column) = patch.quotientAndRemainder(dividingBy: perSide)
    guard rows.contains(row), columns.contains(column) else { return nil }
    if isWhole { return patch }
    return perSide * perSide + (firstLine + row) * lineLength + firstColumn + column
  }
}

/// How many rows of an image each tile hands over: as many each, where a tile has so many patches.
struct TileShares {
  private let level: Int
  private var extra: Int

  /// `sizes`: the patches of each of `tileCount` tiles that show the image, at least `count` in all.
  init(_ count: Int, tileCount: Int, sizes: (Int) -> Int) {
    func sum(_ level: Int) -> Int { (0..<tileCount).reduce(0) { $0 + min(level, sizes($1)) } }
    // The highest level that all tiles together do not exceed.
    var (low, high) = (0, count + 1)
    while low + 1 < high {
      let middle = (low + high) / 2
      if sum(middle) <= count { low = middle } else { high = middle }
    }
    level = low
    extra = count - sum(low)
  }

  /// Of the tiles in order: those first that have a patch more take what is left over.
  mutating func next(_ size: Int) -> Int {
    guard size > level, extra > 0 else { return min(level, size) }
    extra -= 1
    return level + 1
  }
}

/// Puts the rows that tiles handed over, one after the other, into the image's order.
struct TileOrder {
  /// Twice the token; below 0 the class token of the tile that shows the image whole, odd that of another.
  let keys: UnsafeMutablePointer<Int32>
  let image: ImageRows

  func note(_ token: Int?, isWhole: Bool, at row: Int) {
    keys[row] = token.map { Int32(2 * $0) } ?? (isWhole ? -1 : Int32(2 * image.wholeCount - 1))
  }

  private func line(_ row: Int) -> Int {
    let token = Int(keys[row]) / 2
    return keys[row] % 2 != 0 || token < image.wholeCount
      ? -1 : (token - image.wholeCount) / image.lineLength
  }

  /// Sorts the first `count` rows and puts `out`'s last row behind each line. `keys` become origins. Returns how many
  /// rows there are.
  func arrange(_ out: Rows, count: Int) -> Int {
    for row in 0..<count {
      var least = row
      for other in row..<count where keys[other] < keys[least] { least = other }
      if least != row { swap(row, least, out) }
    }
    var ends = 0
    for row in 0..<count where line(row) >= 0 && (row + 1 == count || line(row + 1) != line(row)) {
      ends += 1
    }
    let newline = out[out.count - 1]
    var place = count + ends
    var following = -1
    for row in (0..<count).reversed() {
      let own = line(row)
      if own >= 0 && own != following {
        place -= 1
        out[place].update(from: newline, count: out.dim)
        keys[place] = VisualRows.lineEnd
      }
      following = own
      place -= 1
      if place != row { out[place].update(from: out[row], count: out.dim) }
      keys[place] = keys[row] % 2 == 0 ? keys[row] / 2 : -1
    }
    return count + ends
  }

  private func swap(_ a: Int, _ b: Int, _ out: Rows) {
    (keys[a], keys[b]) = (keys[b], keys[a])
    let (x, y) = (out[a], out[b])
    for i in 0..<out.dim { (x[i], y[i]) = (y[i], x[i]) }
  }
}
