import CPIOKernels
import Foundation
import PIOFormat
import PIOThreads
import Testing

@testable import PIORuntime

private func length(_ x: [Double]) -> Double { x.reduce(0) { $0 + $1 * $1 }.squareRoot() }

private let rowCount = 3001
private let proxyCount = 3

/// The derivative of a mean cross-entropy against its own arg-max, in front of the head, beside its formula in f64.
struct HeadLossTests {
  /// A head, its weights in f32, and rows in front of it.
  private struct Problem {
    let dim: Int
    var weights: [Float]
    var rows: [Float]
    var kind = TensorKind.f32
    /// The same weights packed, of a quantized kind.
    var blocks: [UInt8] = []

    init(dim: Int) {
      var generator = SplitMix64(state: 5)
      func floats(_ count: Int) -> [Float] {
        (0..<count).map { _ in Float(generator.next() >> 40) / Float(1 << 23) - 1 }
      }
      self.dim = dim
      weights = floats(rowCount * dim)
      rows = floats(proxyCount * dim)
    }

    /// Weights of codes and scales that are drawn, groups of 32; rows that 8 bits hold exactly.
    init(dim: Int, kind: TensorKind) {
      self.init(dim: dim)
      self.kind = kind
      var generator = SplitMix64(state: 6)
      let (group, top) = (32, kind == .int8 ? 255 : 15)
      let groups = (dim + group - 1) / group
      let blockBytes = pio_block_bytes(UInt32(kind.rawValue), UInt32(group))
      blocks = [UInt8](repeating: 0, count: (rowCount + 15) / 16 * groups * blockBytes)
      for block in 0..<(blocks.count / blockBytes) {
        let codes = (0..<(16 * group)).map { _ in UInt8(generator.next() % UInt64(top + 1)) }
        let scales = (0..<16).map { _ in
          pio_f16_from_f32(Float(generator.next() % 1000 + 500) / 1000 * 2 / Float(top))
        }
        blocks.withUnsafeMutableBufferPointer {
          pio_pack_block(
            $0.baseAddress! + block * blockBytes, codes, scales,
            [UInt16](repeating: pio_f16_from_f32(-0.75), count: 16), UInt32(kind.rawValue),
            UInt32(group))
        }
      }
      var floats = weights
      withHead { head in
        var matrix = head.matrix
        pio_dequantize_rows(&floats, dim, &matrix, 0, rowCount)
      }
      weights = floats
      for index in rows.indices {
        rows[index] = index % dim % group == 7 ? 127 : (rows[index] * 127).rounded()
        rows[index] /= 128
      }
    }

    mutating func withHead<R>(_ body: (Linear) throws -> R) rethrows -> R {
      let (kind, dim) = (kind, dim)
      func head(_ bytes: UnsafeMutableRawBufferPointer) throws -> R {
        try body(
          Linear(
            data: UnsafeRawPointer(bytes.baseAddress!), kind: kind,
            group: kind.isQuantized ? 32 : 0, rows: rowCount, columns: dim, bias: nil))
      }
      return kind.isQuantized
        ? try blocks.withUnsafeMutableBytes(head) : try weights.withUnsafeMutableBytes(head)
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
    // Its plan has room for quantized rows where its weights are quantized.
    let path = try Files.model(
      "Tests/Golden/checkpoints/text-only", weights: problem.kind.isQuantized ? .int8 : .f32,
      vision: .f32)
    let file = try ModelFile(path: path)
    var limits = Limits()
    limits.imageCount = 0
    limits.contextRows = 8
    limits.threadCount = threads
    let plan = try ArenaLayout(
      file.config, file.tensors, limits: limits, maxPieceBytes: 16)
    var layout = Layout()
    let regions = SaliencyRegions(&layout, file.config.text, promptRows: 8, chunkRows: 8)
    let scratch = try Arena(byteCount: plan.arenaByteCount)
    let arena = try Arena(byteCount: layout.peak)
    let operations = Operations(
      kernels: pio_kernels_best().pointee, pool: try ThreadPool(threadCount: threads), plan: plan,
      arena: scratch)
    var (copy, rows) = (problem, problem.rows)
    var out = [Float](repeating: 7, count: rows.count)
    copy.withHead { head in
      let loss = HeadLoss(operations: operations, head: head, regions: regions, arena: arena)
      rows.withUnsafeMutableBufferPointer { rows in
        var input = LinearInput(
          Rows(base: rows.baseAddress!, count: proxyCount, dim: problem.dim))
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
          loss.finish(Rows(base: $0.baseAddress!, count: proxyCount, dim: problem.dim))
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
    for ends in [[rowCount], [64, 1600, 1616, rowCount]] {
      let found = try derivatives(problem, ends: ends)
      for proxy in 0..<proxyCount {
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

  /// What `gemm_transposed_int8` rounds: derivatives times scales, to 8 bits of the greatest of 64 rows. The bound is twice
  /// what was measured.
  @Test(arguments: [TensorKind.int8, .int4, .int4Affine])
  func quantizedHeadsRoundTheDerivativesAlone(kind: TensorKind) throws {
    let problem = Problem(dim: try problem().dim, kind: kind)
    for ends in [[rowCount], [64, 1600, 1616, rowCount]] {
      let found = try derivatives(problem, ends: ends)
      for proxy in 0..<proxyCount {
        let (slope, _) = problem.exact(proxy)
        let errors = (0..<problem.dim).map { slope[$0] - Double(found[proxy * problem.dim + $0]) }
        let error = length(errors) / length(slope)
        print("head loss, \(kind), proxy row \(proxy), \(ends.count) pieces: \(error)")
        #expect(error > 0 && error <= 0.003, "proxy row \(proxy), \(ends)")
      }
    }
  }

  @Test(arguments: [TensorKind.f32, .int8])
  func threadsChangeNoBit(kind: TensorKind) throws {
    let dim = try problem().dim
    let problem = kind == .f32 ? Problem(dim: dim) : Problem(dim: dim, kind: kind)
    let one = try derivatives(problem, ends: [1024, rowCount], threads: 1)
    for threads in [2, 3, 9] {
      let more = try derivatives(problem, ends: [1024, rowCount], threads: threads)
      #expect(more == one, "\(threads) threads")
    }
  }

  @Test func whatIsNoNumberMakesNone() throws {
    var problem = try problem()
    problem.rows[problem.dim] = .nan
    let found = try derivatives(problem, ends: [rowCount])
    #expect(found[problem.dim..<(2 * problem.dim)].allSatisfy { $0.isNaN })
    #expect(found[..<problem.dim].allSatisfy { $0.isFinite })
  }
}
