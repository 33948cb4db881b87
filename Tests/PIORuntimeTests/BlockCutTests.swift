import Testing

@testable import PIORuntime

struct BlockCutTests {
  @Test func everyBlockIsInOneTaskAndTasksAscend() {
    var random = SplitMix64(state: 5)
    for _ in 0..<2000 {
      let blocks = 1 + Int(random.next() % 3000)
      let rows = 1 + Int(random.next() % 8)
      let threads = 1 + Int(random.next() % 9)
      let cut = BlockCut(blocks: blocks, rowCount: rows, threadCount: threads)
      var next = 0
      for task in 0..<cut.taskCount {
        #expect(cut[task].lowerBound == next && !cut[task].isEmpty)
        next = cut[task].upperBound
      }
      #expect(next == blocks, "\(blocks) blocks, \(rows) rows, \(threads) threads")
    }
  }

  @Test func aFewRowsBeginWithHalfOfEachThreadsShareAndEndWithLittle() {
    let cut = BlockCut(blocks: 704, rowCount: 1, threadCount: 2)
    #expect(cut[0] == 0..<176 && cut[1] == 176..<352 && cut[2].count == 88)
    #expect(cut[cut.taskCount - 1].count <= 4)
    let many = BlockCut(blocks: 704, rowCount: 640, threadCount: 2)
    #expect((0..<many.taskCount).allSatisfy { many[$0].count <= 16 })
  }
}
