import Testing

@testable import PIORuntime

/// The quantized rows of one input lie in memory that the next input takes.
struct LinearTests {
  @Test func anInputIsCurrentUntilAnotherIsQuantized() throws {
    let path = try Files.model(
      "Tests/Golden/checkpoints/text-only", weights: .int8, vision: .f32)
    let session = try makeSession(path)
    let model = session.runtime.model
    var numbers = [Float](repeating: 1, count: model.config.text.dim)
    numbers.withUnsafeMutableBufferPointer { numbers in
      check(Rows(base: numbers.baseAddress!, count: 1, dim: numbers.count), model)
    }
  }

  private func check(_ rows: Rows, _ model: Model) {
    let (operations, layer) = (model.operations, model.decoder.weights.layers[0])
    var (first, second) = (LinearInput(rows), LinearInput(rows))
    #expect(operations.isCurrent(first) && operations.isCurrent(second))
    operations.prepare(&first, for: layer.query)
    operations.prepare(&first, for: layer.key)
    #expect(operations.isCurrent(first))
    operations.prepare(&second, for: layer.query)
    #expect(operations.isCurrent(second) && !operations.isCurrent(first))
  }
}
