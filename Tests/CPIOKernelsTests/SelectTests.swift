import CPIOKernels
import Testing

/// Around the vectors of every table and the runs that are looked at together.
private let counts = [1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 500]

@Test(arguments: counts)
func argmaxIsTheFirstOfTheLargest(count: Int) {
  var random = Random(count)
  for round in 0..<40 {
    var x = random.floats(count)
    let at = random.int(0...count - 1), again = random.int(0...count - 1)
    if round % 2 == 0 { (x[at], x[again]) = (2, 2) }
    let most = x.max()!
    for table in tables {
      #expect(
        table.pointee.argmax(x, count) == x.firstIndex(of: most)!, "\(name(table)) \(round)")
    }
  }
}

@Test(arguments: [Float.nan, .infinity, -.infinity])
func argmaxRefusesWhatIsNotFinite(bad: Float) {
  for count in counts {
    for at in Set([0, count / 2, count - 1]) {
      var x = [Float](repeating: 1, count: count)
      x[at] = bad
      for table in tables {
        #expect(table.pointee.argmax(x, count) == count, "\(name(table)) \(count) \(at)")
      }
    }
  }
}

@Test(arguments: counts)
func atLeastFindsEveryIndexOnce(count: Int) {
  var random = Random(count)
  for threshold: Float in [-2, 0.9, 0.97, 0, 2] {
    var x = random.floats(count)
    x[random.int(0...count - 1)] = threshold
    let expected = x.indices.filter { x[$0] >= threshold }.map { Int32($0) }
    for table in tables {
      for most in Set([count, expected.count, max(0, expected.count - 1), 0]) {
        var out = [Int32](repeating: -7, count: count + 1)
        let found = table.pointee.at_least(&out, x, count, threshold, most)
        #expect(most >= expected.count ? found == expected.count : found > most)
        #expect(Array(out.prefix(min(most, expected.count))) == Array(expected.prefix(most)))
        #expect(out[min(most, expected.count)...].allSatisfy { $0 == -7 }, "\(name(table))")
      }
    }
  }
}

@Test func expIsTheSameEverywhereAndClose() {
  var random = Random(1)
  for count in counts {
    let x = random.floats(count, -90...3), maximum: Float = 3, factor: Float = 1.25
    var scalar = x
    tables[0].pointee.exp(&scalar, count, maximum, factor)
    for (x, y) in zip(x, scalar) {
      let argument = (x - maximum) * factor
      let exact = exponential(Double(argument))
      #expect(argument < -87.3 ? y <= 1.3e-38 : abs(Double(y) - exact) <= 0x1p-21 * exact, "\(x)")
    }
    for table in tables {
      var out = x + [5]
      table.pointee.exp(&out, count, maximum, factor)
      #expect(bits(out) == bits(scalar + [5]), "\(name(table)) \(count)")
    }
  }
}

/// exp by its series on x / 1024, squared ten times: not what the kernels do.
private func exponential(_ x: Double) -> Double {
  let small = x / 1024
  var term = 1.0, sum = 1.0
  for n in 1..<18 {
    term *= small / Double(n)
    sum += term
  }
  for _ in 0..<10 { sum *= sum }
  return sum
}
