import PIOFormat
import PIORuntime
import Testing

/// The quantized arithmetic against `--compute f32` on the same file: what is left is the rounding of activations
/// to 8 bits a group.
struct QuantizedPathTests {
  /// Largest difference of a logit, about twice what was measured: 0.084 for the demo, whose logits reach 20, and
  /// 0.17 to 1.53 for the tiny ones, which are random, 40 to 96 wide and of logits about ±10: nothing averages out.
  static let bounds: [(String, Float)] =
    [("demo", 0.2)] + (tinyCheckpoints + smolCheckpoints + qwenCheckpoints).map { ($0, 2) }

  @Test(arguments: bounds, [TensorKind.int8, .int4])
  func staysWithinTheBoundOfF32(_ checkpoint: (String, Float), weights: TensorKind) throws {
    let (name, bound) = checkpoint
    let (golden, _) = try Golden.load(name)
    let path = try Files.model(golden.checkpoint, weights: weights, vision: .int8)
    var quantized = try makeSession(path) { $0.kv = .f32 }
    var oracle = try makeSession(path) {
      $0.compute = .f32
      $0.kv = .f32
    }
    for test in golden.cases.prefix(2) {
      quantized.reset()
      oracle.reset()
      let tokens = try oracle.rawTokens(test.prompt, isFirst: true)
      let a = try run(&quantized, tokens, images: test.imagePaths)
      let b = try run(&oracle, tokens, images: test.imagePaths)
      let difference = largestDifference(a.logits, b.logits)
      print("quantized path, \(name), \(weights), \(test.name): \(difference)")
      #expect(difference <= bound && difference > 0, "\(test.name): \(difference)")
    }
  }
}
