/// The tokens of an image, `lines` × `columns`, in the order in which a tower takes them: window by window, in each by
/// lines. `window`: tokens a side; 0: one window is all there is.
struct CellGrid {
  let lines: Int
  let columns: Int
  let window: Int

  var count: Int { lines * columns }

  private var side: Int { window > 0 ? window : max(lines, columns) }

  /// Where token `index` of the tower's order lies.
  func place(_ index: Int) -> (line: Int, column: Int) {
    // A band of windows has `side` lines, but for the last.
    let band = index / (side * columns)
    let top = band * side
    let height = min(side, lines - top)
    let inBand = index - top * columns
    let across = inBand / (height * side)
    let left = across * side
    let width = min(side, columns - left)
    let inWindow = inBand - height * left
    return (top + inWindow / width, left + inWindow % width)
  }

  /// Which token of the tower's order lies there.
  func index(line: Int, column: Int) -> Int {
    let (top, left) = (line / side * side, column / side * side)
    let (height, width) = (min(side, lines - top), min(side, columns - left))
    return top * columns + height * left + (line - top) * width + column - left
  }

  /// Calls `body` with the tokens of each window, in the tower's order.
  func forEachWindow(_ body: (Range<Int>) -> Void) {
    var first = 0
    for top in stride(from: 0, to: lines, by: side) {
      for left in stride(from: 0, to: columns, by: side) {
        let count = min(side, lines - top) * min(side, columns - left)
        body(first..<(first + count))
        first += count
      }
    }
  }
}
