typealias Vector = SIMD8<Float>

/// A group's scale and minimum as they are stored, and the squared error they leave.
struct GroupFit {
  var scale: Float16 = 0
  var minimum: Float16 = 0
  var error: Float = .infinity
}

/// One group of weights, at most 128, in vectors of eight; what is missing in the last vector is
/// zero and has zero in `mask`.
///
/// Sums run in eight lanes in a fixed order, without fused multiply-adds: the codes are the same
/// bits on every machine.
struct WeightGroup {
  let weights: UnsafePointer<Vector>
  /// 1 where there is a weight, 0 after the last column of the matrix.
  let mask: UnsafePointer<Vector>
  let vectorCount: Int

  /// What there is to the left and right of zero, and on the whole.
  var range: (low: Float, high: Float) {
    var (low, high) = (weights[0], weights[0])
    for i in 0..<vectorCount {
      let w = weights[i]
      low.replace(with: w, where: (w .< low) .& (mask[i] .> 0))
      high.replace(with: w, where: (w .> high) .& (mask[i] .> 0))
    }
    return (low.min(), high.max())
  }
}

/// 1.5 · 2^23: adding it to a number below 2^22 pushes the fraction out, to the nearest integer,
/// ties to even; the integer is then in the low bits.
private let roundingBias = Float(12_582_912)

@inline(__always)
private func rounded(_ x: Vector) -> Vector {
  let bias = Vector(repeating: roundingBias)
  return (x + bias) - bias
}

/// Writes the integers next to `x`, each less `low`.
@inline(__always)
private func store(_ x: Vector, less low: Int32, to codes: UnsafeMutablePointer<UInt8>) {
  let biased = unsafeBitCast(x + Vector(repeating: roundingBias), to: SIMD8<Int32>.self)
  let code = biased &- (Int32(bitPattern: roundingBias.bitPattern) &+ low)
  UnsafeMutableRawPointer(codes).storeBytes(
    of: SIMD8<UInt8>(truncatingIfNeeded: code), as: SIMD8<UInt8>.self)
}

@inline(__always)
private func clamped(_ x: Vector, _ low: Vector, _ high: Vector) -> Vector {
  let raised = x.replacing(with: low, where: x .< low)
  return raised.replacing(with: high, where: raised .> high)
}

// MARK: Symmetric

/// Finds the scale for `w ≈ scale · q`, q in `low…high`, that leaves the least squared error.
///
/// Candidates put the weight of largest magnitude at or somewhat beyond the longer end of the
/// range, so that the scale may be negative; the best of them, and the one whose codes promise
/// most, are refined by least squares with their codes fixed (`Σwq / Σq²`). Every candidate is
/// judged as it will be stored, rounded to f16, and the max-abs scale is among them.
struct SymmetricQuantizer {
  let low: Float
  let high: Float
  /// Where the largest magnitude may come to lie, in codes.
  private let ends: [Float]

  static let int4 = SymmetricQuantizer(
    low: -8, high: 7,
    ends: [6.4, 6.7, 7.0, 7.2, 7.4, 7.6, 7.8, 8.0, 8.2, 8.4, 8.6, 8.8, 9.1, 9.5])
  static let int8 = SymmetricQuantizer(
    low: -128, high: 127, ends: [125, 126, 127, 127.6, 128, 128.4, 129, 130])

  /// Σw² with no codes at all, Σwq and Σq² decide everything.
  private struct Sums {
    var error: Float
    var wq: Float
    var qq: Float
  }

  /// Nil where a weight is too large for an f16 scale.
  func fit(_ group: WeightGroup) -> GroupFit? {
    let range = group.range
    let extreme = -range.low > range.high ? range.low : range.high
    guard extreme != 0 else { return GroupFit(error: 0) }
    var best = GroupFit()
    var promising = (scale: Float16(0), gain: Float(-1))
    let maxAbs = Float16(Swift.abs(extreme) / high)
    guard maxAbs.isFinite else { return nil }
    consider(maxAbs, group, &best, &promising)
    for end in ends { consider(Float16(-extreme / end), group, &best, &promising) }
    if best.scale == 0 {  // below half of f16's smallest number: nothing is better than zero
      return GroupFit(error: sums(group, scale: 0).error)
    }
    refine(group, from: best.scale, &best)
    if promising.scale != best.scale { refine(group, from: promising.scale, &best) }
    return best
  }

  /// Writes `count` codes, `q - low`.
  func encode(_ group: WeightGroup, _ fit: GroupFit, into codes: UnsafeMutablePointer<UInt8>) {
    let inverse = fit.scale == 0 ? 0 : 1 / Float(fit.scale)
    for i in 0..<group.vectorCount {
      let q = clamped(group.weights[i] * inverse, Vector(repeating: low), Vector(repeating: high))
      store(q, less: Int32(low), to: codes + 8 * i)
    }
  }

  @inline(__always)
  private func consider(
    _ scale: Float16, _ group: WeightGroup, _ best: inout GroupFit,
    _ promising: inout (scale: Float16, gain: Float)
  ) {
    guard scale != 0, scale.isFinite else { return }
    let sums = sums(group, scale: Float(scale))
    if sums.error < best.error { best = GroupFit(scale: scale, error: sums.error) }
    guard sums.qq > 0 else { return }
    let gain = sums.wq * sums.wq / sums.qq
    if gain > promising.gain { promising = (scale, gain) }
  }

  private func refine(_ group: WeightGroup, from scale: Float16, _ best: inout GroupFit) {
    var scale = scale
    for _ in 0..<3 {
      let old = sums(group, scale: Float(scale))
      guard old.qq > 0 else { return }
      let next = Float16(old.wq / old.qq)
      guard next != scale, next != 0, next.isFinite else { return }
      scale = next
      let error = sums(group, scale: Float(scale)).error
      if error < best.error { best = GroupFit(scale: scale, error: error) }
    }
  }

  @inline(__always)
  private func sums(_ group: WeightGroup, scale: Float) -> Sums {
    let inverse = Vector(repeating: scale == 0 ? 0 : 1 / scale)
    let scales = Vector(repeating: scale)
    let (lows, highs) = (Vector(repeating: low), Vector(repeating: high))
    var (error, wq, qq) = (Vector.zero, Vector.zero, Vector.zero)
    for i in 0..<group.vectorCount {
      let w = group.weights[i]
      let q = rounded(clamped(w * inverse, lows, highs))
      let difference = w - q * scales
      error += difference * difference
      wq += w * q
      qq += q * q
    }
    return Sums(error: error.sum(), wq: wq.sum(), qq: qq.sum())
  }
}

// MARK: Affine

/// Finds scale and minimum for `w ≈ scale · c + minimum`, c in 0…15, with the least squared error.
///
/// Candidates are the full range and ranges cut at either end; the best ones are refined by least
/// squares with their codes fixed. Every candidate is judged with both numbers rounded to f16.
struct AffineQuantizer {
  private static let cuts: [Float] = [0, 0.03, 0.06, 0.1, 0.15]
  private static let high: Float = 15

  private struct Sums {
    var error: Float
    var c: Float
    var cc: Float
    var wc: Float
  }

  /// Nil where a weight is out of f16's range. `count` and `sum` are of the group's weights.
  func fit(_ group: WeightGroup) -> GroupFit? {
    let range = group.range
    guard Float16(range.low).isFinite, Float16(range.high).isFinite else { return nil }
    var (count, sum) = (Vector.zero, Vector.zero)
    for i in 0..<group.vectorCount {
      count += group.mask[i]
      sum += group.weights[i]
    }
    let totals = (count: count.sum(), sum: sum.sum())
    var best = GroupFit()
    var promising = (fit: GroupFit(), residue: Float.infinity)
    let width = range.high - range.low
    for left in Self.cuts {
      for right in Self.cuts {
        let fit = GroupFit(
          scale: Float16(width * (1 - left - right) / Self.high),
          minimum: Float16(range.low + width * left))
        let sums = consider(fit, group, &best)
        let residue = residue(sums, totals)
        if residue < promising.residue { promising = (fit, residue) }
      }
    }
    guard best.scale != 0 else { return best }
    refine(group, from: best, totals, &best)
    refine(group, from: promising.fit, totals, &best)
    return best
  }

  /// Writes the codes; 0 where there is no weight.
  func encode(_ group: WeightGroup, _ fit: GroupFit, into codes: UnsafeMutablePointer<UInt8>) {
    let inverse = fit.scale == 0 ? 0 : 1 / Float(fit.scale)
    let minimum = Vector(repeating: Float(fit.minimum))
    for i in 0..<group.vectorCount {
      let c = clamped(
        (group.weights[i] - minimum) * inverse, .zero, Vector(repeating: Self.high))
      store(c * group.mask[i], less: 0, to: codes + 8 * i)
    }
  }

  @inline(__always)
  private func consider(_ fit: GroupFit, _ group: WeightGroup, _ best: inout GroupFit) -> Sums {
    let sums = sums(group, fit)
    if sums.error < best.error {
      best = GroupFit(scale: fit.scale, minimum: fit.minimum, error: sums.error)
    }
    return sums
  }

  /// How little of Σ(w - mean)² the best line through these codes explains, up to a constant.
  private func residue(_ sums: Sums, _ totals: (count: Float, sum: Float)) -> Float {
    let variance = sums.cc - sums.c * sums.c / totals.count
    let covariance = sums.wc - totals.sum * sums.c / totals.count
    return variance > 0 ? -covariance * covariance / variance : .infinity
  }

  private func refine(
    _ group: WeightGroup, from start: GroupFit, _ totals: (count: Float, sum: Float),
    _ best: inout GroupFit
  ) {
    var fit = start
    for _ in 0..<3 {
      let old = sums(group, fit)
      let variance = old.cc - old.c * old.c / totals.count
      guard variance > 0, old.cc > 0 else { return }
      let slope = (old.wc - totals.sum * old.c / totals.count) / variance
      // The minimum is rounded first, the scale then fits the minimum there is.
      fit.minimum = Float16((totals.sum - slope * old.c) / totals.count)
      fit.scale = Float16((old.wc - Float(fit.minimum) * old.c) / old.cc)
      guard fit.scale > 0, fit.scale.isFinite, fit.minimum.isFinite else { return }
      _ = consider(fit, group, &best)
    }
  }

  @inline(__always)
  private func sums(_ group: WeightGroup, _ fit: GroupFit) -> Sums {
    let inverse = Vector(repeating: fit.scale == 0 ? 0 : 1 / Float(fit.scale))
    let (scale, minimum) = (
      Vector(repeating: Float(fit.scale)), Vector(repeating: Float(fit.minimum))
    )
    let highs = Vector(repeating: Self.high)
    var (error, c, cc, wc) = (Vector.zero, Vector.zero, Vector.zero, Vector.zero)
    for i in 0..<group.vectorCount {
      let (w, mask) = (group.weights[i], group.mask[i])
      let code = rounded(clamped((w - minimum) * inverse, .zero, highs)) * mask
      let difference = w - (code * scale + minimum) * mask
      error += difference * difference
      c += code
      cc += code * code
      wc += w * code
    }
    return Sums(error: error.sum(), c: c.sum(), cc: cc.sum(), wc: wc.sum())
  }
}
