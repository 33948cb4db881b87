/// What one image is to the decoder, from its size alone: which rows it gives, and where its tokens lie.
///
/// The rows are grids of tokens, one behind the other: a grid is a tile, or what several tiles show together. Tokens
/// are counted through all grids. Rows between them are none of the image's tokens, so that no budget counts them: one
/// that ends a line stays as long as a token of its line does, text stays always.
struct VisualLayout: Equatable, Sendable {
  struct Grid: Equatable, Sendable {
    let lines: Int
    let lineLength: Int
    /// A row of the model's own stands behind each line.
    var endsLines = false

    var tokenCount: Int { lines * lineLength }
    var rowCount: Int { tokenCount + (endsLines ? lines : 0) }
  }

  enum Part: Equatable, Sendable {
    /// So many tokens that lie nowhere in the image: a class token.
    case unplaced(Int)
    case grid(Grid)
    /// Tokens of text, such as the name of the tile behind them.
    case text([Int32])
  }

  /// What a row is.
  enum RowKind: Equatable, Sendable {
    case token(Int)
    case lineEnd
    case text(Int32)
  }

  /// Where a token lies: its grid, counted from 0, and its place in it.
  struct Cell: Equatable, Sendable {
    let grid: Int
    let line: Int
    let column: Int
  }

  /// Which positions the rows have for the decoder's rotation.
  enum Places: Equatable, Sendable {
    /// Each the next one.
    case byRow
    /// All the same time, and each its line and its column; what follows stands behind the longer edge. Of one grid alone.
    case byGrid
  }

  let parts: [Part]
  let places: Places
  /// The grid that shows the image whole.
  let overview: Int
  /// Visual tokens: what a budget counts.
  let tokenCount: Int
  let rowCount: Int
  let lineEndCount: Int

  init(_ parts: [Part], overview: Int = 0, places: Places = .byRow) {
    self.parts = parts
    self.places = places
    self.overview = overview
    tokenCount = parts.reduce(0) { $0 + $1.tokenCount }
    rowCount = parts.reduce(0) { $0 + $1.rowCount }
    lineEndCount = parts.reduce(0) { sum, part in
      if case .grid(let grid) = part, grid.endsLines { sum + grid.lines } else { sum }
    }
  }

  /// Positions that the rows take.
  var positionCount: Int {
    guard places == .byGrid else { return rowCount }
    let grid = overviewGrid.grid
    return max(grid.lines, grid.lineLength)
  }

  var textCount: Int {
    parts.reduce(0) { sum, part in if case .text(let ids) = part { sum + ids.count } else { sum } }
  }

  /// Calls `body` with each row in order.
  func forEachRow(_ body: (RowKind) -> Void) {
    var token = 0
    for part in parts {
      switch part {
      case .unplaced(let count):
        for _ in 0..<count {
          body(.token(token))
          token += 1
        }
      case .text(let ids): for id in ids { body(.text(id)) }
      case .grid(let grid):
        for _ in 0..<grid.lines {
          for _ in 0..<grid.lineLength {
            body(.token(token))
            token += 1
          }
          if grid.endsLines { body(.lineEnd) }
        }
      }
    }
  }

  /// Where a token lies; nil: nowhere in the image.
  func cell(of token: Int) -> Cell? {
    var first = 0
    var grid = 0
    for part in parts {
      let place = token - first
      first += part.tokenCount
      guard case .grid(let shape) = part else {
        if token < first { return nil }
        continue
      }
      if place < shape.tokenCount && place >= 0 {
        return Cell(grid: grid, line: place / shape.lineLength, column: place % shape.lineLength)
      }
      grid += 1
    }
    return nil
  }

  /// Whether a row of the model's own ends the token's line.
  func endsLine(of token: Int) -> Bool {
    var first = 0
    for part in parts {
      first += part.tokenCount
      guard token < first else { continue }
      if case .grid(let grid) = part { return grid.endsLines }
      return false
    }
    return false
  }

  /// The grid that shows the image whole, and its first token.
  var overviewGrid: (grid: Grid, firstToken: Int) {
    var (first, index) = (0, 0)
    for part in parts {
      if case .grid(let grid) = part {
        if index == overview { return (grid, first) }
        index += 1
      }
      first += part.tokenCount
    }
    preconditionFailure("a visual layout without its overview")
  }

  /// The row of a token.
  func row(of token: Int) -> Int {
    var (firstToken, firstRow) = (0, 0)
    for part in parts {
      let place = token - firstToken
      if place < part.tokenCount {
        guard case .grid(let grid) = part, grid.endsLines else { return firstRow + place }
        return firstRow + place + place / grid.lineLength
      }
      firstToken += part.tokenCount
      firstRow += part.rowCount
    }
    preconditionFailure("a visual layout has no token \(token)")
  }

  /// The row of the text token that is the `index`-th of the layout's, counted from 0.
  func row(ofText index: Int) -> Int {
    var (firstRow, left) = (0, index)
    for part in parts {
      if case .text(let ids) = part {
        if left < ids.count { return firstRow + left }
        left -= ids.count
      }
      firstRow += part.rowCount
    }
    preconditionFailure("a visual layout has no text token \(index)")
  }

  /// The first row behind row `row` that ends a line; nil: there is none.
  func lineEnd(behind row: Int) -> Int? {
    var first = 0
    for part in parts {
      if case .grid(let grid) = part, grid.endsLines, grid.lines > 0 {
        let stride = grid.lineLength + 1
        let line = max(0, row + 1 - first) / stride
        if line < grid.lines { return first + line * stride + grid.lineLength }
      }
      first += part.rowCount
    }
    return nil
  }
}

extension VisualLayout.Part {
  var tokenCount: Int {
    switch self {
    case .unplaced(let count): count
    case .grid(let grid): grid.tokenCount
    case .text: 0
    }
  }

  var rowCount: Int {
    switch self {
    case .unplaced(let count): count
    case .grid(let grid): grid.rowCount
    case .text(let ids): ids.count
    }
  }
}
