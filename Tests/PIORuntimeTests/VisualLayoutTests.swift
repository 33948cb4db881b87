import Testing

@testable import PIORuntime

/// What planner, pruner and positions ask of an image's layout, against a walk over its rows.
struct VisualLayoutTests {
  /// LLaVA with and without a class token, LLaVA-NeXT, and a family that names its tiles in text.
  static let layouts: [VisualLayout] = [
    VisualLayout([.grid(.init(lines: 3, lineLength: 3))]),
    VisualLayout([.unplaced(1), .grid(.init(lines: 2, lineLength: 2))]),
    VisualLayout([
      .grid(.init(lines: 2, lineLength: 2)), .grid(.init(lines: 3, lineLength: 4, endsLines: true)),
    ]),
    VisualLayout([
      .grid(.init(lines: 2, lineLength: 2)), .grid(.init(lines: 3, lineLength: 0, endsLines: true)),
    ]),
    VisualLayout(
      [
        .text([7, 8]), .grid(.init(lines: 2, lineLength: 3)), .text([9]),
        .grid(.init(lines: 1, lineLength: 2)), .text([]), .text([10, 11, 12]),
        .grid(.init(lines: 2, lineLength: 2)), .text([13]),
      ], overview: 2),
  ]

  private func rows(_ layout: VisualLayout) -> [VisualLayout.RowKind] {
    var rows: [VisualLayout.RowKind] = []
    layout.forEachRow { rows.append($0) }
    return rows
  }

  @Test(arguments: layouts)
  func countsAreThoseOfTheRows(_ layout: VisualLayout) {
    let rows = rows(layout)
    #expect(layout.rowCount == rows.count)
    #expect(layout.lineEndCount == rows.filter { $0 == .lineEnd }.count)
    let tokens = rows.compactMap { if case .token(let token) = $0 { token } else { nil } }
    #expect(tokens == Array(0..<layout.tokenCount))
    let texts = rows.filter { if case .text = $0 { true } else { false } }
    #expect(layout.textCount == texts.count)
  }

  @Test(arguments: layouts)
  func aTokensRowIsWhereTheWalkMeetsIt(_ layout: VisualLayout) {
    var texts = 0
    for (row, kind) in rows(layout).enumerated() {
      switch kind {
      case .token(let token): #expect(layout.row(of: token) == row)
      case .text:
        #expect(layout.row(ofText: texts) == row)
        texts += 1
      case .lineEnd: #expect(layout.lineEnd(behind: row - 1) == row)
      }
    }
  }

  @Test(arguments: layouts)
  func aLineEndsAtTheNextEnd(_ layout: VisualLayout) {
    let rows = rows(layout)
    for (row, kind) in rows.enumerated() {
      guard case .token(let token) = kind else { continue }
      #expect(layout.lineEnd(behind: row) == rows[row...].firstIndex(of: .lineEnd))
      // Its own line's, where the grid's lines have ends.
      guard layout.endsLine(of: token) else { continue }
      let end = layout.lineEnd(behind: row)!
      let cell = layout.cell(of: token)!
      for other in rows[row..<end] {
        guard case .token(let other) = other else { continue }
        #expect(layout.cell(of: other)!.line == cell.line)
      }
    }
  }

  @Test func cellsCountGridsLinesAndColumns() {
    let layout = Self.layouts[4]
    #expect(layout.cell(of: 0) == .init(grid: 0, line: 0, column: 0))
    #expect(layout.cell(of: 5) == .init(grid: 0, line: 1, column: 2))
    #expect(layout.cell(of: 6) == .init(grid: 1, line: 0, column: 0))
    #expect(layout.cell(of: 11) == .init(grid: 2, line: 1, column: 1))
    #expect(layout.cell(of: 12) == nil)
    #expect(layout.overviewGrid.firstToken == 8)
    #expect(layout.overviewGrid.grid == .init(lines: 2, lineLength: 2))
    // A class token lies nowhere.
    #expect(Self.layouts[1].cell(of: 0) == nil)
    #expect(Self.layouts[1].cell(of: 1) == .init(grid: 0, line: 0, column: 0))
    #expect(Self.layouts[1].overviewGrid.firstToken == 1)
  }

  /// Whichever tokens are kept, with the ends of their lines and all text there are no more rows than planned.
  @Test(arguments: layouts)
  func noChoiceNeedsMoreRowsThanAreCounted(_ layout: VisualLayout) {
    var random = SplitMix64(state: 5)
    for _ in 0..<200 {
      let kept = Set((0..<layout.tokenCount).filter { _ in random.next() % 3 == 0 })
      var (count, lineHasToken) = (0, false)
      layout.forEachRow { kind in
        switch kind {
        case .token(let token):
          if kept.contains(token) {
            count += 1
            lineHasToken = lineHasToken || layout.endsLine(of: token)
          }
        case .text: count += 1
        case .lineEnd:
          if lineHasToken { count += 1 }
          lineHasToken = false
        }
      }
      #expect(
        count <= kept.count + min(layout.lineEndCount, kept.count) + layout.textCount)
    }
  }
}

/// The rows of a prompt's images in the decoder.
struct VisualRowsTests {
  /// Memory as the arena has it.
  private final class Buffers {
    let spans = UnsafeMutableBufferPointer<Int32>.allocate(capacity: 8)
    let origins = UnsafeMutableBufferPointer<Int32>.allocate(capacity: 64)
    let offsets = UnsafeMutableBufferPointer<Int32>.allocate(capacity: 64)

    init() {
      spans.initialize(repeating: 0)
      origins.initialize(repeating: 0)
      offsets.initialize(repeating: -9)
    }

    deinit {
      spans.deallocate()
      origins.deallocate()
      offsets.deallocate()
    }
  }

  @Test(arguments: VisualLayoutTests.layouts)
  func wholeImagesHaveOnePositionARow(_ layout: VisualLayout) {
    let buffers = Buffers()
    var visual = VisualRows(
      [layout, layout], spans: buffers.spans, origins: buffers.origins)
    visual.append(first: 2)
    visual.append(first: 3 + layout.rowCount)
    let count = 5 + 2 * layout.rowCount
    #expect(visual.positions(count, into: RowPlaces(times: buffers.offsets.baseAddress!)) == count)
    #expect(Array(buffers.offsets[..<count]) == (0..<Int32(count)).map { $0 })
    #expect(visual.tokenCount == 2 * layout.tokenCount)
    #expect(visual.end == 3 + 2 * layout.rowCount)
  }

  /// What is left of an image has the positions that it would have had, and so has the text behind it.
  @Test(arguments: VisualLayoutTests.layouts)
  func rowsThatAreLeftKeepTheirPositions(_ layout: VisualLayout) {
    let buffers = Buffers()
    var visual = VisualRows([layout], spans: buffers.spans, origins: buffers.origins)
    var kept: [(origin: Int32, row: Int32)] = []
    var row: Int32 = 0
    layout.forEachRow { kind in
      switch kind {
      case .token(let token) where token % 2 == 0: kept.append((Int32(token), row))
      case .text: kept.append((VisualRows.text, row))
      case .lineEnd where kept.last.map { $0.origin >= 0 } ?? false:
        if layout.endsLine(of: Int(kept.last!.origin)) { kept.append((VisualRows.lineEnd, row)) }
      default: break
      }
      row += 1
    }
    for (index, entry) in kept.enumerated() { buffers.origins[3 + index] = entry.origin }
    visual.append(reduced: 3..<(3 + kept.count))
    let count = 3 + kept.count + 2
    let whole = 3 + layout.rowCount + 2
    #expect(visual.isReduced)
    #expect(visual.positions(count, into: RowPlaces(times: buffers.offsets.baseAddress!)) == whole)
    #expect(buffers.offsets[3..<(3 + kept.count)].map { $0 - 3 } == kept.map(\.row))
    #expect(Int(buffers.offsets[count - 1]) == whole - 1)
  }

  /// Text, an image of 2 × 3 tokens, text: the example of the families' paper, and one that is longer than high.
  @Test func anImageAtItsOwnShapeStandsInLinesAndColumns() {
    var numbers = [Int32](repeating: -1, count: 3 * 60)
    var axes: [UInt8] = [0, 1, 2]
    let buffers = Buffers()
    numbers.withUnsafeMutableBufferPointer { numbers in
      axes.withUnsafeMutableBufferPointer { axes in
        let places = RowPlaces(
          times: numbers.baseAddress!, stride: 60, axes: axes.baseAddress!)
        for (lines, columns, next) in [(2, 3, 6), (1, 40, 43)] {
          let layout = VisualLayout(
            [.grid(.init(lines: lines, lineLength: columns))], places: .byGrid)
          var visual = VisualRows([layout], spans: buffers.spans, origins: buffers.origins)
          visual.append(first: 3)
          let tokens = lines * columns
          #expect(visual.positions(5 + tokens, into: places) == next + 2)
          for row in 0..<3 {
            #expect((0..<3).allSatisfy { places.position(row, frequency: $0) == row })
          }
          for token in 0..<tokens {
            let found = (0..<3).map { places.position(3 + token, frequency: $0) }
            #expect(found == [3, Int32(3 + token / columns), Int32(3 + token % columns)])
          }
          for (row, position) in [(3 + tokens, next), (4 + tokens, next + 1)] {
            #expect((0..<3).allSatisfy { places.position(row, frequency: $0) == Int32(position) })
          }
        }
      }
    }
  }

  /// Windows by lines, in each its tokens by lines; those at the right and lower edge are smaller.
  @Test func tokensGoWindowByWindow() {
    let grid = CellGrid(lines: 5, columns: 6, window: 4)
    let order = (0..<30).map { grid.place($0) }.map { $0.line * 6 + $0.column }
    #expect(
      order == [
        0, 1, 2, 3, 6, 7, 8, 9, 12, 13, 14, 15, 18, 19, 20, 21, 4, 5, 10, 11, 16, 17, 22, 23, 24,
        25,
        26, 27, 28, 29,
      ])
    var windows: [Range<Int>] = []
    grid.forEachWindow { windows.append($0) }
    #expect(windows == [0..<16, 16..<24, 24..<28, 28..<30])
    for (lines, columns, window) in [
      (5, 6, 4), (8, 8, 4), (1, 9, 2), (9, 1, 2), (3, 3, 0), (2, 7, 9),
    ] {
      let grid = CellGrid(lines: lines, columns: columns, window: window)
      for index in 0..<grid.count {
        let place = grid.place(index)
        #expect(grid.index(line: place.line, column: place.column) == index)
      }
    }
  }
}
