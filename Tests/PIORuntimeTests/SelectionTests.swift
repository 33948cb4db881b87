import CPIOKernels
import Foundation
import PIOFormat
import PIOThreads
import Testing

@testable import PIORuntime

/// The selection against a plain one that has all cosines at hand.
struct SelectionTests {
  /// Greedy non-maximum suppression in the order of the definition, in f64.
  private func plain(_ scores: [Float], _ rows: [[Float]], _ share: Int, _ threshold: Double)
    -> [Int]
  {
    func cosine(_ a: Int, _ b: Int) -> Double {
      var (ab, aa, bb) = (0.0, 0.0, 0.0)
      for (x, y) in zip(rows[a], rows[b]) {
        ab += Double(x) * Double(y)
        aa += Double(x) * Double(x)
        bb += Double(y) * Double(y)
      }
      return aa * bb > 0 ? ab / (aa * bb).squareRoot() : 0
    }
    let order = scores.indices.sorted { (scores[$0], $1) > (scores[$1], $0) }
    var suppressed = Set<Int>()
    var kept: [Int] = []
    for row in order where !suppressed.contains(row) && kept.count < share {
      kept.append(row)
      for other in rows.indices where cosine(row, other) >= threshold { suppressed.insert(other) }
    }
    for row in order where kept.count < share && !kept.contains(row) { kept.append(row) }
    return kept.sorted()
  }

  private func with<R>(rowCount: Int, _ body: (Selection) throws -> R) throws -> R {
    var layout = Layout()
    let regions = SelectionRegions(&layout, promptRows: rowCount)
    let path = try Files.model(
      "Tests/Golden/checkpoints/text-only", weights: .f32, vision: .f32)
    let file = try ModelFile(path: path)
    var limits = Limits()
    limits.imageCount = 0
    limits.contextRows = 8
    limits.threadCount = 3
    let plan = try ArenaLayout(
      file.config, file.tensors, limits: limits, maxPieceBytes: 16)
    let scratch = try Arena(byteCount: plan.arenaByteCount)
    let arena = try Arena(byteCount: layout.peak)
    let operations = Operations(
      kernels: pio_kernels_best().pointee, pool: try ThreadPool(threadCount: 3), plan: plan,
      arena: scratch)
    return try body(Selection(operations: operations, regions: regions, arena: arena))
  }

  private func floats(_ count: Int, _ generator: inout SplitMix64) -> [Float] {
    (0..<count).map { _ in Float(generator.next() >> 40) / Float(1 << 23) - 1 }
  }

  /// Rows around a few directions, so that many resemble each other; equal scores and rows of zeros among them.
  @Test(arguments: [1, 7, 64, 300], [-1, 0.3, 0.8, 0.97, 2.0])
  func keepsWhatThePlainSelectionKeeps(rowCount: Int, threshold: Double) throws {
    try with(rowCount: rowCount + 9) { selection in
      var generator = SplitMix64(state: UInt64(rowCount))
      let dim = 24
      let centres = (0..<6).map { _ in floats(dim, &generator) }
      for share in Set([1, rowCount / 9 + 1, rowCount / 2 + 1, rowCount]) {
        var rows = (0..<rowCount).map { row in
          zip(centres[row % 6], floats(dim, &generator)).map { $0 + $1 * 0.4 }
        }
        rows[rowCount / 3] = [Float](repeating: 0, count: dim)
        var scores = floats(rowCount, &generator).map { abs($0) }
        if rowCount > 6 { scores[5] = scores[2] }
        var all = [Float](repeating: 7, count: 4 * dim) + rows.flatMap { $0 }
        let span = 4..<(4 + rowCount)
        for (row, score) in zip(span, scores) { selection.scores[row] = score }
        var kept = [Int32](repeating: -1, count: share)
        all.withUnsafeMutableBufferPointer {
          let hidden = Rows(base: $0.baseAddress!, count: 4 + rowCount, dim: dim)
          selection.begin(span)
          _ = selection.keepDistinct(
            share, of: span, in: hidden, threshold: Float(threshold))
        }
        selection.write(span, to: &kept)
        #expect(kept.map { Int($0) - 4 } == plain(scores, rows, share, threshold), "\(share)")
      }
    }
  }

  @Test(arguments: [1, 4, 9, 20])
  func coveringKeepsTheBestOfEachCellThenFillsUp(count: Int) throws {
    let side = 6
    try with(rowCount: side * side) { selection in
      var generator = SplitMix64(state: 5)
      let scores = floats(side * side, &generator)
      for (row, score) in scores.enumerated() { selection.scores[row] = score }
      let span = 0..<(side * side)
      selection.begin(span)
      selection.keepBestOfCells(count, of: span, lines: side, lineLength: side) { $0 }
      let rows = Int(Double(count).squareRoot())
      let columns = min(side, count / rows)
      let cells = Dictionary(grouping: span) {
        [$0 / side * rows / side, $0 % side * columns / side]
      }
      let best = Set(cells.values.map { cell in cell.max { scores[$0] < scores[$1] }! })
      #expect(cells.count == rows * columns)
      #expect(Set(span.filter(selection.isKept)) == best)
      var all = floats(side * side * 8, &generator)
      all.withUnsafeMutableBufferPointer {
        let hidden = Rows(base: $0.baseAddress!, count: side * side, dim: 8)
        _ = selection.keepDistinct(25, of: span, in: hidden, threshold: 2)
      }
      let rest = span.filter { !best.contains($0) }.sorted { scores[$0] > scores[$1] }
      #expect(
        Set(span.filter(selection.isKept)) == best.union(rest.prefix(25 - best.count)))
    }
  }

  @Test func aScoreThatIsNoNumberComesLast() throws {
    try with(rowCount: 6) { selection in
      for (row, score) in [Float.nan, 1, 3, .nan, 2, .infinity].enumerated() {
        selection.scores[row] = score
      }
      selection.sort(0..<6)
      #expect((0..<6).map(selection.ranked) == [5, 2, 4, 1, 0, 3])
    }
  }
}
