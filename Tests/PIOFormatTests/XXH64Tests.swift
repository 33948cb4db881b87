import Testing

@testable import PIOFormat

private func hash(_ text: String, seed: UInt64 = 0) -> UInt64 {
  Array(text.utf8).withUnsafeBytes { XXH64.hash($0, seed: seed) }
}

@Test func publishedChecksumsComeOut() {
  #expect(hash("") == 0xEF46_DB37_51D8_E999)
  #expect(hash("a") == 0xD24E_C4F1_A98C_6E5B)
  #expect(hash("abc") == 0x44BC_2CF5_AD77_0999)
  #expect(hash("xxhash") == 0x32DD_3895_2C4B_C720)
  #expect(hash("xxhash", seed: 20_141_025) == 0xB559_B98D_844E_0635)
  #expect(hash("Nobody inspects the spammish repetition") == 0xFBCE_A83C_8A37_8BF1)
}

@Test func publishedChecksumsOfTheSanityBufferComeOut() {
  var generator: UInt64 = 2_654_435_761
  let buffer = (0..<222).map { _ in
    defer { generator &*= 11_400_714_785_074_694_797 }
    return UInt8(truncatingIfNeeded: generator >> 56)
  }
  func hash(_ count: Int, _ seed: UInt64) -> UInt64 {
    buffer[..<count].withUnsafeBytes { XXH64.hash($0, seed: seed) }
  }
  #expect(hash(0, 2_654_435_761) == 0xAC75_FDA2_929B_17EF)
  #expect(hash(1, 0) == 0xE934_A84A_DB05_2768)
  #expect(hash(1, 2_654_435_761) == 0x5014_6076_43A9_B4C3)
  #expect(hash(4, 0) == 0x9136_A0DC_A574_57EE)
  #expect(hash(14, 0) == 0x8282_DCC4_994E_35C8)
  #expect(hash(222, 0) == 0xB641_AE8C_B691_C174)
  #expect(hash(222, 2_654_435_761) == 0x20CB_8AB7_AE10_C14A)
}

@Test func chunksDoNotChangeTheChecksum() {
  var random = TestRandom(4)
  let bytes = (0..<1000).map { _ in UInt8.random(in: 0...255, using: &random) }
  for _ in 0..<200 {
    let count = Int.random(in: 0...1000, using: &random)
    let whole = bytes[..<count].withUnsafeBytes { XXH64.hash($0) }
    var state = XXH64()
    var start = 0
    while start < count {
      let end = min(count, start + Int.random(in: 0...70, using: &random))
      bytes[start..<end].withUnsafeBytes { state.update($0) }
      start = end
    }
    #expect(state.value == whole)
  }
}
