import CPIOKernels
import PIOThreads

/// How a product's blocks are cut into tasks.
struct BlockCut: Equatable {
  let taskCount: Int
  private let blocks: Int
  private let threadCount: Int
  /// Blocks of a task; 0: falling.
  private let blocksPerTask: Int

  /// Rows up to which a product is a matter of reading its weights.
  private static let fewRows = 4
  /// Blocks that the last tasks of a falling cut have, 16 rows each.
  private static let leastBlocks = 2

  /// Many rows: tasks of one size, at most 16 blocks, a panel that stays in the second-level cache. A few: weights pass
  /// by once, so that each thread gets one long piece, half of its share, then a quarter, and so on down to small ones, which
  /// leave little to wait for at the end.
  init(blocks: Int, rowCount: Int, threadCount: Int) {
    self.blocks = blocks
    self.threadCount = threadCount
    let isFalling = rowCount <= Self.fewRows && threadCount > 1
    // Two at a time where there are: some kernels' tiles have two.
    let even = max(1, blocks / (threadCount * 4) & ~1)
    blocksPerTask = isFalling ? 0 : min(16, even)
    guard isFalling else {
      taskCount = (blocks + blocksPerTask - 1) / blocksPerTask
      return
    }
    var count = 0
    var next = 0
    var size = max(Self.leastBlocks, blocks / (2 * threadCount))
    while next < blocks {
      next += size
      count += 1
      if count % threadCount == 0 { size = max(Self.leastBlocks, size / 2) }
    }
    taskCount = count
  }

  subscript(task: Int) -> Range<Int> {
    guard blocksPerTask == 0 else {
      return (task * blocksPerTask)..<min(blocks, (task + 1) * blocksPerTask)
    }
    let (round, index) = task.quotientAndRemainder(dividingBy: threadCount)
    var size = max(Self.leastBlocks, blocks / (2 * threadCount))
    var first = 0
    for _ in 0..<round {
      first += size * threadCount
      size = max(Self.leastBlocks, size / 2)
    }
    first += index * size
    return first..<min(blocks, first + size)
  }
}

/// Panels of row blocks, counted through all weights, times the quantized input.
struct QuantizedProducts: ParallelBody {
  let operations: Operations
  let first: Product
  let second: Product?
  let third: Product?
  let cut: BlockCut

  func run(task: Int, thread: Int) {
    let blocks = cut[task]
    var before = 0
    run(first, blocks, &before)
    if let second { run(second, blocks, &before) }
    if let third { run(third, blocks, &before) }
  }

  /// The part of the task that is this product's; `before`: the blocks of the products in front of it.
  private func run(_ product: Product, _ blocks: Range<Int>, _ before: inout Int) {
    let range = blocks.clamped(to: before..<(before + product.blocks))
    defer { before += product.blocks }
    guard !range.isEmpty else { return }
    var matrix = product.weight.matrix
    let out = product.out
    operations.kernels.gemm(
      out.base, out.dim, &matrix, operations.activations, out.count, range.lowerBound - before,
      range.upperBound - before, product.weight.bias, product.accumulate ? 1 : 0)
  }
}
