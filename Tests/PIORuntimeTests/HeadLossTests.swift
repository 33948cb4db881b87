import CPIOKernels
import Foundation
import PIOFormat
import PIOThreads
import Testing

@testable import PIORuntime

private func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }

/// The derivative of a mean cross-entropy against its own arg-max, in front of the head, beside its formula in f64.
struct HeadLossTests {
  private static let rowCount = 3001
  private static let proxyCount = 3

  /// A head of f32 weights, and rows in front of it.
  private struct Problem {
    let dim: Int
    var weights: [Float]
    var rows: [Float]

    init(dim: Int) {
      var generator = SplitMix64(state: 5)
      func floats(_ count: Int) -> [Float] {
        (0..<count).map { _ in Float(generator.next() >> 40) / Float(1 << 23) - 1 }
      }
      self.dim = dim
      weights = floats(rowCount * dim)
      rows = floats(proxyCount * dim)
    }

    /// `Σ (softmax(l)_v − [v = m]) W_v / P` without m's own term: `Σ p_v (W_v − W_m) / P`.
    /// And what rounding may make of it: `S W_m / (P (1 + S))` is taken away from as much where logits are equal.
    func exact(_ proxy: Int) -> (slope: [Double], rounding: Double) {
      let x = rows[(proxy * dim)..<((proxy + 1) * dim)].map(Double.init)
      let heads = (0..<rowCount).map { row in
        weights[(row * dim)..<((row + 1) * dim)].map(Double.init)
      }
      let logits = heads.map { zip($0, x).reduce(0) { $0 + $1.0 * $1.1 } }
      let best = logits.firstIndex(of: logits.max()!)!
      let powers = logits.map { exp($0 - logits[best]) }
      let total = powers.reduce(0, +)
      let slope = (0..<dim).map { column in
        zip(heads, powers).reduce(0) { $0 + $1.1 * ($1.0[column] - heads[best][column]) }
          / total / Double(proxyCount)
      }
      return (slope, 0x1p-22 * (total - 1) / total * length(heads[best]))
    }
  }

  /// The derivatives, `(proxy, dim)`, with the head's rows given in pieces that end at `ends`.
  private func derivatives(_ problem: Problem, ends: [Int], threads: Int = 2) throws -> [Float] {
    let path = try Files.model("Tests/Golden/checkpoints/text-only", weights: .f32, vision: .f32)
    let file = try ModelFile(path: path)
    var limits = Limits()
    limits.imageCount = 0
    limits.contextRows = 8
    limits.threadCount = threads
    let plan = try Plan(
      file.config, encodings: file.tensors.map(\.encoding), limits: limits, maxPieceBytes: 16)
    var layout = Layout()
    let regions = SaliencyRegions(&layout, file.config.text, promptRows: 8, chunkRows: 8)
    let scratch = try Arena(byteCount: plan.arenaByteCount)
    let arena = try Arena(byteCount: layout.peak)
    let operations = Operations(
      kernels: pio_kernels_best().pointee, pool: ThreadPool(threadCount: threads), plan: plan,
      arena: scratch)
    var (weights, rows) = (problem.weights, problem.rows)
    var out = [Float](repeating: 7, count: rows.count)
    weights.withUnsafeMutableBytes { weights in
      let head = Linear(
        data: UnsafeRawPointer(weights.baseAddress!), kind: .f32, group: 0, rows: Self.rowCount,
        columns: problem.dim, bias: nil)
      let loss = HeadLoss(operations: operations, head: head, regions: regions, arena: arena)
      rows.withUnsafeMutableBufferPointer { rows in
        var input = LinearInput(
          Rows(base: rows.baseAddress!, count: Self.proxyCount, dim: problem.dim))
        // What an earlier stage has left counts for nothing.
        loss.begin()
        loss.add(64..<1024, &input)
        loss.begin()
        var first = 0
        for end in ends {
          loss.add(first..<end, &input)
          first = end
        }
        out.withUnsafeMutableBufferPointer {
          loss.finish(Rows(base: $0.baseAddress!, count: Self.proxyCount, dim: problem.dim))
        }
      }
    }
    return out
  }

  private func problem() throws -> Problem {
    let path = try Files.model("Tests/Golden/checkpoints/text-only", weights: .f32, vision: .f32)
    return Problem(dim: try ModelFile(path: path).config.text.dim)
  }

  private func expectExact(_ problem: Problem) throws {
    for ends in [[Self.rowCount], [64, 1600, 1616, Self.rowCount]] {
      let found = try derivatives(problem, ends: ends)
      for proxy in 0..<Self.proxyCount {
        let (slope, rounding) = problem.exact(proxy)
        let errors = (0..<problem.dim).map { slope[$0] - Double(found[proxy * problem.dim + $0]) }
        #expect(
          length(errors) <= 2e-5 * length(slope) + rounding, "proxy row \(proxy), \(ends)")
      }
    }
  }

  @Test func isTheDerivativeOfTheLoss() throws {
    try expectExact(problem())
  }

  /// The greatest logit comes last, first, and twice, of which the first counts.
  @Test(arguments: [[3000], [0], [700, 2500], [2500, 2501]])
  func whereverTheGreatestLogitIs(places: [Int]) throws {
    var problem = try problem()
    for column in 0..<problem.dim {
      for place in places { problem.weights[place * problem.dim + column] = problem.rows[column] }
    }
    try expectExact(problem)
  }

  /// One row is as good as certain: what is left is the derivative, and keeps its digits.
  @Test func certaintyLosesNoDigits() throws {
    var problem = try problem()
    for column in 0..<problem.dim {
      problem.weights[2048 * problem.dim + column] = 1.5 * problem.rows[column]
    }
    try expectExact(problem)
  }

  @Test func threadsChangeNoBit() throws {
    let problem = try problem()
    let one = try derivatives(problem, ends: [1024, Self.rowCount], threads: 1)
    for threads in [2, 3, 9] {
      let more = try derivatives(problem, ends: [1024, Self.rowCount], threads: threads)
      #expect(more == one, "\(threads) threads")
    }
  }

  @Test func whatIsNoNumberMakesNone() throws {
    var problem = try problem()
    problem.rows[problem.dim] = .nan
    let found = try derivatives(problem, ends: [Self.rowCount])
    #expect(found[problem.dim..<(2 * problem.dim)].allSatisfy { $0.isNaN })
    #expect(found[..<problem.dim].allSatisfy { $0.isFinite })
  }
}
