import CPIOKernels
import Foundation
import Testing

/// Keys and values of one head, as a cache of `kind` holds them.
private struct Cache {
  let kind: pio_float
  let headDim: Int
  let capacity: Int
  var keys: [UInt8]
  var values: [UInt8]
  var keyScales: [Float]
  var valueScales: [Float]

  init(kind: pio_float, headDim: Int, capacity: Int) {
    self.kind = kind
    self.headDim = headDim
    self.capacity = capacity
    let bytes = kind == PIO_F32 ? 4 : kind == PIO_F16 ? 2 : 1
    keys = Array(repeating: 0, count: capacity * headDim * bytes)
    values = keys
    keyScales = Array(repeating: 0, count: capacity)
    valueScales = keyScales
  }

  mutating func with<R>(_ body: (UnsafePointer<pio_kv>) -> R) -> R {
    keys.withUnsafeMutableBytes { k in
      values.withUnsafeMutableBytes { v in
        keyScales.withUnsafeMutableBufferPointer { ks in
          valueScales.withUnsafeMutableBufferPointer { vs in
            var kv = pio_kv(
              keys: k.baseAddress, values: v.baseAddress, key_scales: ks.baseAddress,
              value_scales: vs.baseAddress, kind: kind.rawValue, head_dim: UInt32(headDim))
            return body(&kv)
          }
        }
      }
    }
  }

  mutating func store(
    _ table: UnsafePointer<pio_kernels>, _ position: Int, _ key: [Float], _ value: [Float]
  ) {
    with { table.pointee.kv_store($0, position, key, value) }
  }

  /// What the cache holds, exactly.
  func element(_ data: [UInt8], _ scales: [Float], _ position: Int, _ i: Int) -> Double {
    let at = position * headDim + i
    return data.withUnsafeBytes { bytes in
      switch kind {
      case PIO_F32: Double(bytes.loadUnaligned(fromByteOffset: 4 * at, as: Float.self))
      case PIO_F16:
        Double(pio_f16_to_f32(bytes.loadUnaligned(fromByteOffset: 2 * at, as: UInt16.self)))
      default: Double(scales[position]) * Double(Int8(bitPattern: data[at]))
      }
    }
  }
}

private struct Shape {
  var headDim = 64
  var rows = 1
  var heads = 1
  var firstVisible = 1
  var step = 1
  var last: Int { firstVisible + (rows - 1) * step }
}

private let shapes: [Shape] = {
  var shapes: [Shape] = []
  for headDim in [2, 8, 20, 24, 64, 80, 128] {
    for (rows, heads) in [(1, 1), (1, 3), (1, 8), (2, 4), (3, 3), (17, 1), (40, 2), (7, 5)] {
      shapes.append(Shape(headDim: headDim, rows: rows, heads: heads))
      shapes.append(Shape(headDim: headDim, rows: rows, heads: heads, firstVisible: 61))
      shapes.append(Shape(headDim: headDim, rows: rows, heads: heads, firstVisible: 77, step: 0))
      shapes.append(Shape(headDim: headDim, rows: rows, heads: heads, firstVisible: 32, step: 0))
    }
  }
  return shapes
}()

private func reference(
  _ cache: Cache, _ shape: Shape, q: [Float], qStride: Int, scale: Float
) -> [[Double]] {
  let dim = shape.headDim
  let keys = (0..<shape.last).map { j in
    (0..<dim).map { cache.element(cache.keys, cache.keyScales, j, $0) }
  }
  let values = (0..<shape.last).map { j in
    (0..<dim).map { cache.element(cache.values, cache.valueScales, j, $0) }
  }
  return (0..<shape.rows * shape.heads).map { pair in
    let (t, h) = (pair / shape.heads, pair % shape.heads)
    let row = (0..<dim).map { Double(q[t * qStride + h * dim + $0]) * Double(scale) }
    let visible = shape.firstVisible + t * shape.step
    let scores = keys[0..<visible].map { key in zip(row, key).reduce(0) { $0 + $1.0 * $1.1 } }
    let weights = scores.map { exp($0 - scores.max()!) }
    let total = weights.reduce(0, +)
    return (0..<dim).map { i in
      (0..<visible).reduce(0) { $0 + weights[$1] * values[$1][i] } / total
    }
  }
}

@Test(arguments: [PIO_F32, PIO_F16, PIO_KV_INT8])
func attentionIsWithinItsBound(kind: pio_float) {
  var random = Random(Int(kind.rawValue) + 1)
  for shape in shapes {
    let dim = shape.headDim, width = shape.heads * dim, stride = width + 5
    var cache = Cache(kind: kind, headDim: dim, capacity: shape.last + 3)
    for position in 0..<cache.capacity {
      // Behind the last visible position lies what nobody may read.
      let secret = position >= shape.last
      let key = secret ? Array(repeating: .nan, count: dim) : random.floats(dim, -2...2)
      let value = secret ? Array(repeating: .nan, count: dim) : random.floats(dim, -2...2)
      cache.store(tables[0], position, key, value)
    }
    let q = random.floats(shape.rows * stride, -3...3), scale = 1 / Float(dim).squareRoot()
    let exact = reference(cache, shape, q: q, qStride: stride, scale: scale)
    // No score's sum of magnitudes exceeds 2 * 3 a term, no value exceeds 2 (and a step of int8).
    let largest = Double(scale) * 6.1 * Double(dim)
    let bound = 2.1 * 0x1p-23 * (Double(dim) * largest + Double(shape.last) + 8)
    for table in tables {
      // In place where the strides agree.
      var scratch = [Float](repeating: .nan, count: pio_attention_scratch(dim))
      var out = q
      out.withUnsafeMutableBufferPointer { out in
        cache.with { kv in
          table.pointee.attention(
            out.baseAddress, stride, out.baseAddress, stride, kv, shape.rows, shape.heads,
            shape.firstVisible, shape.step, scale, &scratch)
        }
      }
      var worst = 0.0, touched = false
      for t in 0..<shape.rows {
        for i in 0..<stride {
          if i < width {
            let expected = exact[t * shape.heads + i / dim][i % dim]
            worst = max(worst, abs(Double(out[t * stride + i]) - expected))
          } else if out[t * stride + i] != q[t * stride + i] {
            touched = true
          }
        }
      }
      #expect(worst <= bound && !touched, "\(name(table)) \(shape): \(worst)")
    }
  }
}

/// Every row sees every key: in whole numbers of 16 bits where that is faster.
@Test(arguments: [2, 20, 64, 72, 80, 128])
func attentionToAllIsWithinItsBound(headDim dim: Int) {
  var random = Random(dim)
  for (rows, count) in [(1, 1), (3, 64), (40, 77), (129, 33), (17, 200), (300, 2)] {
    let stride = dim + 3
    var cache = Cache(kind: PIO_F32, headDim: dim, capacity: count + 2)
    for position in 0..<cache.capacity {
      let secret = position >= count
      // Values of one key are much larger than those of its neighbours.
      let most: Float = position % 5 == 3 ? 30 : 1
      cache.store(
        tables[0], position,
        secret ? Array(repeating: .nan, count: dim) : random.floats(dim, -2...2),
        secret ? Array(repeating: .nan, count: dim) : random.floats(dim, -most...most))
    }
    let q = random.floats(rows * stride, -3...3), scale = 1 / Float(dim).squareRoot()
    let shape = Shape(headDim: dim, rows: rows, heads: 1, firstVisible: count, step: 0)
    let exact = reference(cache, shape, q: q, qStride: stride, scale: scale)
    let (largestKey, largestValue, largestQuery) = (2.0, 30.0, 3.0)
    let step = Double(scale) * Double(dim) * largestQuery * largestKey / 4096
    let bound = largestValue * (exp(2 * step) - 1 + 0x1p-10 + Double(count) * 0x1p-15)
    for table in tables {
      // In place, as the encoder calls it; what lies between the rows stays.
      var out = q
      var scratch = [Float](repeating: .nan, count: pio_attention_all_scratch(dim))
      cache.with { kv in
        out.withUnsafeMutableBufferPointer { x in
          table.pointee.attention_all(
            x.baseAddress!, stride, x.baseAddress!, stride, kv, rows, count, scale, &scratch)
        }
      }
      var largest = 0.0
      for row in 0..<rows {
        for i in 0..<dim {
          largest = max(largest, abs(Double(out[row * stride + i]) - exact[row][i]))
        }
        #expect(
          Array(out[row * stride + dim..<(row + 1) * stride])
            == Array(q[row * stride + dim..<(row + 1) * stride]))
      }
      #expect(
        largest <= bound, "\(name(table)) \(rows) x \(count) x \(dim): \(largest) of \(bound)")
      // Rounding is of both signs: far below the bound.
      #expect(largest <= 0.02, "\(name(table)) \(rows) x \(count) x \(dim): \(largest)")
    }
  }
}

@Test func attentionToAllTakesWhatIsNotFinite() {
  var random = Random(4)
  let (dim, count, rows) = (16, 70, 5)
  for table in tables {
    for place in ["query", "key", "value", "nothing", "huge", "zeros"] {
      var cache = Cache(kind: PIO_F32, headDim: dim, capacity: count)
      for j in 0..<count {
        var key = random.floats(dim), value = random.floats(dim)
        if place == "key" && j == 69 { key[3] = .nan }
        if place == "value" && j == 2 { value[1] = .nan }
        if place == "huge" { key = key.map { $0 * 1e5 } }
        if place == "zeros" {
          (key, value) = ([Float](repeating: 0, count: dim), value.map { _ in 0 })
        }
        cache.store(tables[0], j, key, value)
      }
      var q = random.floats(rows * dim)
      if place == "query" { q[dim + 3] = .nan }
      var out = q
      var scratch = [Float](repeating: 0, count: pio_attention_all_scratch(dim))
      cache.with { table.pointee.attention_all(&out, dim, q, dim, $0, rows, count, 1, &scratch) }
      for row in 0..<rows {
        let mine = out[row * dim..<(row + 1) * dim]
        switch place {
        case "query": #expect(mine.allSatisfy(\.isNaN) == (row == 1), "\(name(table))")
        case "key": #expect(mine.contains { $0.isNaN }, "\(name(table))")
        case "value": #expect(mine.contains { $0.isNaN }, "\(name(table))")
        case "zeros": #expect(mine.allSatisfy { $0 == 0 }, "\(name(table))")
        default: #expect(mine.allSatisfy { abs($0) <= 1.001 }, "\(name(table)) \(place)")
        }
      }
    }
  }
}

/// Scores of hundreds: without the running maximum exp overflows.
@Test func attentionSurvivesHugeScores() {
  let dim = 16
  for table in tables {
    for rows in [1, 20] {
      var cache = Cache(kind: PIO_F32, headDim: dim, capacity: 100)
      for j in 0..<100 {
        let key = [Float](repeating: Float(j), count: dim)
        cache.store(table, j, key, [Float](repeating: Float(j), count: dim))
      }
      let q = [Float](repeating: 10, count: rows * dim)
      var out = q
      var scratch = [Float](repeating: 0, count: pio_attention_scratch(dim))
      cache.with { table.pointee.attention(&out, dim, q, dim, $0, rows, 1, 100, 0, 1, &scratch) }
      #expect(out.allSatisfy { $0 == 99 }, "\(name(table)) up")
      let down = q.map { -$0 }
      cache.with { table.pointee.attention(&out, dim, down, dim, $0, rows, 1, 100, 0, 1, &scratch) }
      #expect(out.allSatisfy { $0 == 0 }, "\(name(table)) down")
    }
  }
}

@Test func aNaNQueryGivesNaNNotACrash() {
  var random = Random(9)
  let dim = 20
  var cache = Cache(kind: PIO_F16, headDim: dim, capacity: 40)
  for j in 0..<40 { cache.store(tables[0], j, random.floats(dim), random.floats(dim)) }
  for table in tables {
    for rows in [2, 12] {
      var q = random.floats(rows * dim)
      q[dim + 3] = .nan
      var out = q
      var scratch = [Float](repeating: 0, count: pio_attention_scratch(dim))
      cache.with { table.pointee.attention(&out, dim, q, dim, $0, rows, 1, 7, 1, 1, &scratch) }
      #expect(out.indices.allSatisfy { out[$0].isNaN == ($0 / dim == 1) }, "\(name(table))")
    }
  }
}

@Test(arguments: [PIO_F32, PIO_F16, PIO_KV_INT8], [2, 7, 20, 64, 100])
func everyTableStoresTheSameCache(kind: pio_float, headDim: Int) {
  var random = Random(headDim)
  let rows = (0..<6).map { _ in random.floats(headDim, -70000...70000) }
  var scalar = Cache(kind: kind, headDim: headDim, capacity: 4)
  for position in 0..<3 { scalar.store(tables[0], position, rows[position], rows[position + 3]) }
  for table in tables {
    var cache = Cache(kind: kind, headDim: headDim, capacity: 4)
    for position in 0..<3 { cache.store(table, position, rows[position], rows[position + 3]) }
    #expect(cache.keys == scalar.keys && cache.values == scalar.values, "\(name(table))")
    #expect(cache.keyScales == scalar.keyScales && cache.valueScales == scalar.valueScales)
  }
  for position in 0..<3 {
    for i in 0..<headDim {
      let x = Double(rows[position][i])
      let held = scalar.element(scalar.keys, scalar.keyScales, position, i)
      let step = Double(scalar.keyScales[position])
      let exact = kind == PIO_F32 ? x : Double(Float(Float16(rows[position][i])))
      #expect(kind == PIO_KV_INT8 ? abs(held - x) <= 0.50001 * step : held == exact)
    }
  }
}

@Test(arguments: [PIO_F32, PIO_F16, PIO_KV_INT8])
func probabilitiesAreWithinTheirBound(kind: pio_float) {
  var random = Random(Int(kind.rawValue) + 20)
  for (dim, heads, visible) in [(2, 1, 1), (20, 3, 31), (64, 4, 33), (80, 1, 577), (128, 8, 100)] {
    var cache = Cache(kind: kind, headDim: dim, capacity: visible + 2)
    for j in 0..<visible {
      cache.store(tables[0], j, random.floats(dim, -2...2), random.floats(dim))
    }
    let secret = [Float](repeating: .nan, count: dim)
    cache.store(tables[0], visible, secret, secret)
    let q = random.floats(heads * dim, -3...3), scale = 1 / Float(dim).squareRoot()
    let stride = visible + 3
    let bound = 0x1p-22 * (Double(dim) * Double(scale) * 6.1 * Double(dim) + Double(visible) + 8)
    for table in tables {
      var scratch = [Float](repeating: .nan, count: pio_attention_scratch(dim))
      var out = [Float](repeating: 77, count: heads * stride)
      cache.with {
        table.pointee.attention_probabilities(
          &out, stride, q, $0, heads, visible, scale, &scratch)
      }
      for h in 0..<heads {
        let scores = (0..<visible).map { j in
          (0..<dim).reduce(0.0) {
            $0 + Double(q[h * dim + $1]) * Double(scale)
              * cache.element(cache.keys, cache.keyScales, j, $1)
          }
        }
        let weights = scores.map { exp($0 - scores.max()!) }
        let total = weights.reduce(0, +)
        for j in 0..<stride {
          let found = out[h * stride + j]
          guard j < visible else {
            #expect(found == 77)
            continue
          }
          let exact = weights[j] / total
          #expect(abs(Double(found) - exact) <= bound * exact + 1e-35, "\(name(table)) \(h) \(j)")
        }
      }
    }
  }
}

@Test func aNaNQueryHeadHasNaNProbabilitiesAlone() {
  var random = Random(2)
  var cache = Cache(kind: PIO_F16, headDim: 24, capacity: 40)
  for j in 0..<40 { cache.store(tables[0], j, random.floats(24), random.floats(24)) }
  var q = random.floats(72)
  q[24 + 5] = .nan
  for table in tables {
    var scratch = [Float](repeating: 0, count: pio_attention_scratch(24))
    var out = [Float](repeating: 0, count: 120)
    cache.with { table.pointee.attention_probabilities(&out, 40, q, $0, 3, 40, 1, &scratch) }
    #expect(out.indices.allSatisfy { out[$0].isNaN == ($0 / 40 == 1) }, "\(name(table))")
  }
}

/// Against the scalar attention to all keys, whose own bound is tested above.
@Test(arguments: [PIO_F32, PIO_F16, PIO_KV_INT8])
func partsPutTogetherAreTheWhole(kind: pio_float) {
  var random = Random(Int(kind.rawValue) + 40)
  for (dim, heads, count, perPart) in [
    (8, 1, 2, 1), (20, 3, 100, 33), (64, 8, 130, 64), (64, 11, 70, 32), (128, 1, 97, 96),
  ] {
    var cache = Cache(kind: kind, headDim: dim, capacity: count + 1)
    for j in 0..<count { cache.store(tables[0], j, random.floats(dim), random.floats(dim)) }
    let secret = [Float](repeating: .nan, count: dim)
    cache.store(tables[0], count, secret, secret)
    let q = random.floats(heads * dim, -9...9), stride = heads * (dim + 2)
    var scratch = [Float](repeating: .nan, count: pio_attention_scratch(dim))
    var whole = q
    cache.with {
      tables[0].pointee.attention(&whole, q.count, q, q.count, $0, 1, heads, count, 0, 1, &scratch)
    }
    for table in tables {
      let partCount = (count + perPart - 1) / perPart
      var parts = [Float](repeating: .nan, count: partCount * stride)
      for part in 0..<partCount {
        cache.with { kv in
          parts.withUnsafeMutableBufferPointer {
            table.pointee.attention_part(
              $0.baseAddress! + part * stride, q, kv, heads, part * perPart,
              min(count, (part + 1) * perPart), 1, &scratch)
          }
        }
      }
      var out = [Float](repeating: 0, count: heads * dim + 1)
      out[heads * dim] = 55
      pio_attention_merge(&out, parts, stride, partCount, heads, dim)
      #expect(out.removeLast() == 55)
      let worst = zip(out, whole).map { abs($0 - $1) }.max()!
      // Two results within the bound at `pio_attention`; S is below 9 dim.
      let bound = 2 * 0x1p-23 * Float(dim * 9 * dim + count + 8)
      #expect(worst <= bound, "\(name(table)) \(dim) \(heads): \(worst)")
    }
  }
}
