import CPIOKernels
import Testing

#if arch(arm64) || os(Linux)
  @Test func everyF16WidensExactly() {
    var inputs = (0...UInt16.max).map { $0 }
    inputs.append(contentsOf: inputs[0..<5])  // so that the vectors have a tail
    let expected = inputs.map { Float(Float16(bitPattern: $0)).bitPattern }
    #expect(inputs.map { pio_f16_to_f32($0).bitPattern } == expected)
    for table in tables {
      var out = [Float](repeating: 0, count: inputs.count)
      table.pointee.f16_to_f32(&out, inputs, inputs.count)
      #expect(out.map(\.bitPattern) == expected, "\(name(table))")
    }
  }

  @Test func f32NarrowsToF16AsTheHardwareDoes() {
    var patterns: [UInt32] = [
      0, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0x7f80_0001, 0x3300_0000, 0x3300_0001,
      0x32ff_ffff, 0x477f_efff, 0x477f_f000, 0x477f_f001, 0x387f_ffff, 0x3880_0000, 1, 0x007f_ffff,
    ]
    for half in UInt16.min...UInt16.max {  // each f16, its neighbours, and the middle to the next
      let wide = Float(Float16(bitPattern: half)).bitPattern
      patterns += [wide, wide &+ 1, wide &- 1, wide &+ 0x1000, wide &+ 0xfff, wide &+ 0x1001]
    }
    var wrong = 0
    for pattern in patterns {
      let x = Float(bitPattern: pattern)
      if x.isNaN {
        let back = Float16(bitPattern: pio_f16_from_f32(x))
        if !back.isNaN || (back.sign != x.sign) { wrong += 1 }
      } else if pio_f16_from_f32(x) != Float16(x).bitPattern {
        wrong += 1
      }
    }
    #expect(wrong == 0)
  }
#endif

@Test func bf16IsTheUpperHalfRoundedToEven() {
  let inputs = (0...UInt16.max).map { $0 }
  let expected = inputs.map { Float(bitPattern: UInt32($0) << 16) }
  #expect(bits(inputs.map(pio_bf16_to_f32)) == bits(expected))
  for table in tables {
    var out = [Float](repeating: 0, count: inputs.count - 3)
    table.pointee.bf16_to_f32(&out, inputs, out.count)
    #expect(bits(out) == bits(Array(expected.prefix(out.count))), "\(name(table))")
  }
  for (x, half): (UInt32, UInt16) in [
    (0x3f80_8000, 0x3f80), (0x3f81_8000, 0x3f82), (0x3f80_8001, 0x3f81), (0x7f7f_ffff, 0x7f80),
    (0x7f80_0001, 0x7fc0), (0xff80_0000, 0xff80),
  ] {
    #expect(pio_bf16_from_f32(Float(bitPattern: x)) == half)
  }
}
