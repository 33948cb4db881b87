import PIOVision

/// Where a tile's patches lie in the image, and which of them show it.
struct TilePlace {
  /// Of the tile's own patches, `0..<perSide` each way: those that show the image.
  let lines: Range<Int>
  let columns: Range<Int>
  /// The line of its grid, and the column in it, of the tile's first patch; below 0 where that is left out.
  let firstLine: Int
  let firstColumn: Int
  /// Tokens in front of the grid, and of one of its lines.
  private let firstToken: Int
  private let lineLength: Int
  private let perSide: Int

  /// A tile that is a grid of its own, behind `firstToken` tokens.
  init(wholeOf perSide: Int, firstToken: Int) {
    self.perSide = perSide
    self.firstToken = firstToken
    lineLength = perSide
    (lines, columns, firstLine, firstColumn) = (0..<perSide, 0..<perSide, 0, 0)
  }

  /// One of several tiles, from 0 in reading order, that together show `grid`, behind `firstToken` tokens.
  init(_ tile: Int, of layout: TileLayout, _ grid: PatchLines, perSide: Int, firstToken: Int) {
    self.perSide = perSide
    self.firstToken = firstToken
    lineLength = grid.columns.count
    let (row, column) = tile.quotientAndRemainder(dividingBy: layout.columns)
    let (line, first) = (
      row * perSide - grid.rows.lowerBound, column * perSide - grid.columns.lowerBound
    )
    func shown(_ first: Int, _ count: Int) -> Range<Int> {
      let low = min(max(0, -first), perSide)
      return low..<max(low, min(perSide, count - first))
    }
    lines = shown(line, grid.rows.count)
    columns = shown(first, grid.columns.count)
    (firstLine, firstColumn) = (line, first)
  }

  var patchCount: Int { lines.count * columns.count }

  /// Which of the image's tokens a patch is; nil: padding.
  func token(of patch: Int) -> Int? {
    let (line, column) = patch.quotientAndRemainder(dividingBy: perSide)
    guard lines.contains(line), columns.contains(column) else { return nil }
    return firstToken + (firstLine + line) * lineLength + firstColumn + column
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
  /// Tokens of the tile that shows the image whole, and of one of the lines behind it.
  let overviewCount: Int
  let lineLength: Int

  func note(_ token: Int?, isOverview: Bool, at row: Int) {
    keys[row] = token.map { Int32(2 * $0) } ?? (isOverview ? -1 : Int32(2 * overviewCount - 1))
  }

  private func line(_ row: Int) -> Int {
    let token = Int(keys[row]) / 2
    return keys[row] % 2 != 0 || token < overviewCount ? -1 : (token - overviewCount) / lineLength
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
