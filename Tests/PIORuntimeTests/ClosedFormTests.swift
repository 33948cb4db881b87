import Foundation
import Testing

/// The formulas of `Saliency` in f64, written out for a toy block, against finite differences of its loss.
struct ClosedFormTests {
  /// A block with grouped heads, the final norm and the head; weights are `(rows, columns)`.
  private struct Block {
    let dim = 12
    let hiddenDim = 10
    let headDim = 4
    let heads = 4
    let kvHeads = 2
    let vocab = 9
    let epsilon = 1e-5
    let query, key, value, output, gate, up, down, head: [[Double]]
    let norms: [[Double]]

    init(_ random: inout SystemRandom) {
      func matrix(_ rows: Int, _ columns: Int) -> [[Double]] {
        (0..<rows).map { _ in (0..<columns).map { _ in random.next() * 0.6 } }
      }
      query = matrix(16, 12)
      key = matrix(8, 12)
      value = matrix(8, 12)
      output = matrix(12, 16)
      gate = matrix(10, 12)
      up = matrix(10, 12)
      down = matrix(12, 10)
      head = matrix(9, 12)
      norms = (0..<3).map { _ in (0..<12).map { _ in 1 + random.next() * 0.3 } }
    }

    func norm(_ x: [Double], _ weight: [Double]) -> [Double] {
      let r = root(x)
      return zip(x, weight).map { $0 * $1 / r }
    }

    func root(_ x: [Double]) -> Double {
      (x.reduce(0) { $0 + $1 * $1 } / Double(dim) + epsilon).squareRoot()
    }

    /// `J uᵀ` of the norm: `g u / r − x ⟨x, g u⟩ / (d r³)`.
    func normBack(_ u: [Double], _ x: [Double], _ weight: [Double]) -> [Double] {
      let r = root(x)
      let scaled = zip(weight, u).map { $0 * $1 }
      let inner = dot(x, scaled) / (Double(dim) * r * r * r)
      return zip(scaled, x).map { $0 / r - $1 * inner }
    }

    func rotate(_ x: [Double], _ position: Int, back: Bool = false) -> [Double] {
      var out = x
      let half = headDim / 2
      for start in stride(from: 0, to: x.count, by: headDim) {
        for i in 0..<half {
          let angle = Double(position) * pow(10, -Double(i)) * (back ? -1 : 1)
          let (a, b) = (x[start + i], x[start + half + i])
          out[start + i] = a * cos(angle) - b * sin(angle)
          out[start + half + i] = b * cos(angle) + a * sin(angle)
        }
      }
      return out
    }
  }

  private struct SystemRandom {
    var state: UInt64
    mutating func next() -> Double {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Double(Int64(bitPattern: state) >> 11) / Double(1 << 52)
    }
  }

  /// What the proxy rows go through.
  private struct Forward {
    var attention: [[[Double]]] = []  // (proxy, head, row)
    var queries: [[Double]] = []
    var attended: [[Double]] = []
    var behindAttention: [[Double]] = []
    var gates: [[Double]] = []
    var ups: [[Double]] = []
    var behindBlock: [[Double]] = []
    var logits: [[Double]] = []
    var values: [[Double]] = []
  }

  private static func dot(_ a: [Double], _ b: [Double]) -> Double {
    zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
  }

  private func forward(_ b: Block, _ rows: [[Double]], _ proxies: [Int]) -> Forward {
    var f = Forward()
    let normed = rows.map { b.norm($0, b.norms[0]) }
    let keys = normed.enumerated().map { b.rotate(times(b.key, $1), $0) }
    f.values = normed.map { times(b.value, $0) }
    for p in proxies {
      let q = b.rotate(times(b.query, normed[p]), p)
      var attended: [Double] = []
      var weights: [[Double]] = []
      for h in 0..<b.heads {
        let own = (h * b.headDim)..<((h + 1) * b.headDim)
        let group = h / (b.heads / b.kvHeads)
        let shared = (group * b.headDim)..<((group + 1) * b.headDim)
        let scores = (0...p).map {
          exp(Self.dot(Array(q[own]), Array(keys[$0][shared])) / Double(b.headDim).squareRoot())
        }
        let sum = scores.reduce(0, +)
        weights.append(scores.map { $0 / sum })
        for i in shared {
          attended.append((0...p).reduce(0) { $0 + weights[h][$1] * f.values[$1][i] })
        }
      }
      let behind = plus(rows[p], times(b.output, attended))
      let normed2 = b.norm(behind, b.norms[1])
      let (gate, up) = (times(b.gate, normed2), times(b.up, normed2))
      let inner = zip(gate, up).map { $0 / (1 + exp(-$0)) * $1 }
      let out = plus(behind, times(b.down, inner))
      f.attention.append(weights)
      f.queries.append(q)
      f.attended.append(attended)
      f.behindAttention.append(behind)
      f.gates.append(gate)
      f.ups.append(up)
      f.behindBlock.append(out)
      f.logits.append(times(b.head, b.norm(out, b.norms[2])))
    }
    return f
  }

  private func loss(_ f: Forward, _ labels: [Int]) -> Double {
    zip(f.logits, labels).reduce(0) { sum, each in
      sum + log(each.0.reduce(0) { $0 + exp($1) }) - each.0[each.1]
    } / Double(labels.count)
  }

  /// The gradient of every row in front of the proxies.
  private func closedForm(_ b: Block, _ rows: [[Double]], _ proxies: [Int]) -> [[Double]] {
    let f = forward(b, rows, proxies)
    let rep = b.heads / b.kvHeads
    var dKeys = rows.map { _ in [Double](repeating: 0, count: b.key.count) }
    var dValues = dKeys
    for (index, p) in proxies.enumerated() {
      let sum = f.logits[index].reduce(0) { $0 + exp($1) }
      let best = f.logits[index].firstIndex(of: f.logits[index].max()!)!
      let e = f.logits[index].enumerated().map {
        (exp($1) / sum - ($0 == best ? 1 : 0)) / Double(proxies.count)
      }
      let dOut = b.normBack(back(b.head, e), f.behindBlock[index], b.norms[2])
      let dInner = back(b.down, dOut)
      var (dGate, dUp) = (dInner, dInner)
      for i in dInner.indices {
        let (g, u) = (f.gates[index][i], f.ups[index][i])
        let s = 1 / (1 + exp(-g))
        dGate[i] = dInner[i] * u * s * (1 + g * (1 - s))
        dUp[i] = dInner[i] * g * s
      }
      let dNormed = plus(back(b.gate, dGate), back(b.up, dUp))
      let dBehind = plus(dOut, b.normBack(dNormed, f.behindAttention[index], b.norms[1]))
      let dAttended = back(b.output, dBehind)
      for h in 0..<b.heads {
        let own = (h * b.headDim)..<((h + 1) * b.headDim)
        let (d, o) = (Array(dAttended[own]), Array(f.attended[index][own]))
        let shared = ((h / rep) * b.headDim)..<((h / rep + 1) * b.headDim)
        for j in 0...p {
          let a = f.attention[index][h][j]
          let c = Self.dot(d, Array(f.values[j][shared]))
          let z = a * (c - Self.dot(d, o)) / Double(b.headDim).squareRoot()
          for (i, at) in shared.enumerated() {
            dKeys[j][at] += z * f.queries[index][h * b.headDim + i]
            dValues[j][at] += a * d[i]
          }
        }
      }
    }
    return rows.indices.filter { $0 < proxies[0] }.map { j in
      let dx = plus(back(b.key, b.rotate(dKeys[j], j, back: true)), back(b.value, dValues[j]))
      return b.normBack(dx, rows[j], b.norms[0])
    }
  }

  @Test func theClosedFormIsTheSlopeOfTheLoss() {
    var random = SystemRandom(state: 7)
    let block = Block(&random)
    var rows = (0..<9).map { _ in (0..<block.dim).map { _ in random.next() } }
    let proxies = [5, 6, 7]
    let start = forward(block, rows, proxies)
    let labels = start.logits.map { $0.firstIndex(of: $0.max()!)! }
    let gradients = closedForm(block, rows, proxies)
    let step = 1e-5
    var largest = 0.0
    for j in 0..<5 {
      for i in 0..<block.dim {
        let here = rows[j][i]
        rows[j][i] = here + step
        let above = loss(forward(block, rows, proxies), labels)
        rows[j][i] = here - step
        let below = loss(forward(block, rows, proxies), labels)
        rows[j][i] = here
        largest = max(largest, abs((above - below) / (2 * step) - gradients[j][i]))
      }
    }
    let size = gradients.flatMap { $0 }.map(abs).max()!
    #expect(largest <= 1e-7 * max(1, size), "\(largest) of \(size)")
    #expect(size > 1e-4, "the toy's loss does not depend on its rows")
  }

  private func times(_ matrix: [[Double]], _ x: [Double]) -> [Double] {
    matrix.map { Self.dot($0, x) }
  }

  private func back(_ matrix: [[Double]], _ y: [Double]) -> [Double] {
    matrix[0].indices.map { column in
      matrix.indices.reduce(0) { $0 + matrix[$1][column] * y[$1] }
    }
  }

  private func plus(_ a: [Double], _ b: [Double]) -> [Double] { zip(a, b).map { $0 + $1 } }
}

private func dot(_ a: [Double], _ b: [Double]) -> Double {
  zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
}
