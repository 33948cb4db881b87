import CPIOKernels
import PIOFormat
import PIOThreads
import Testing

@testable import PIORuntime

/// The quantized rows of one input lie in memory that the next input takes.
struct LinearTests {
  @Test func anInputIsCurrentUntilAnotherIsQuantized() throws {
    let file = try ModelFile(
      path: Files.model("Tests/Golden/checkpoints/text-only", weights: .int8, vision: .f32))
    var limits = Limits()
    limits.imageCount = 0
    limits.contextRows = 8
    let plan = try ArenaLayout(file.config, file.tensors, limits: limits, maxPieceBytes: 16)
    let arena = try Arena(byteCount: plan.arenaByteCount)
    let operations = Operations(
      kernels: pio_kernels_best().pointee, pool: ThreadPool(threadCount: 1), plan: plan,
      arena: arena)
    let layer = Binding(file).text(plan, arena).layers[0]
    var numbers = [Float](repeating: 1, count: layer.query.columns)
    numbers.withUnsafeMutableBufferPointer { numbers in
      let rows = Rows(base: numbers.baseAddress!, count: 1, dim: numbers.count)
      var (first, second) = (LinearInput(rows), LinearInput(rows))
      #expect(operations.isCurrent(first) && operations.isCurrent(second))
      operations.prepare(&first, for: layer.query)
      operations.prepare(&first, for: layer.key)
      #expect(operations.isCurrent(first))
      operations.prepare(&second, for: layer.query)
      #expect(operations.isCurrent(second) && !operations.isCurrent(first))
    }
  }
}
