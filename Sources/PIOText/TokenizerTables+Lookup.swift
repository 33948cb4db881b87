import PIOBase

/// A lookup gives up after so many slots (`formats/TOKENIZER.md`), so no table can make it long.
private let probeLimit = 64

extension TokenizerTables {
  /// The rank of the merge of two neighbours, or −1.
  func rank(left: Int32, right: Int32) -> Int32 {
    if mergeSlots.isEmpty { return -1 }
    let pair = UInt64(UInt32(bitPattern: left)) << 32 | UInt64(UInt32(bitPattern: right))
    var slot = home(pair, mergeSlots.count)
    for _ in 0..<probeLimit {
      let rank = mergeSlots[slot]
      if rank < 0 { return -1 }
      if merges[3 * Int(rank)] == left && merges[3 * Int(rank) + 1] == right { return rank }
      slot = (slot + 1) & (mergeSlots.count - 1)
    }
    return -1
  }

  /// The piece with exactly these bytes as its key, or −1.
  func piece(_ key: UnsafeBufferPointer<UInt8>) -> Int32 {
    if keySlots.isEmpty || key.isEmpty { return -1 }
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in key { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01B3 }
    var slot = home(hash, keySlots.count)
    for _ in 0..<probeLimit {
      let id = keySlots[slot]
      if id < 0 { return -1 }
      let start = Int(keyOffsets[Int(id)])
      let count = Int(keyOffsets[Int(id) + 1]) - start
      if count == key.count && (0..<count).allSatisfy({ keys[start + $0] == key[$0] }) { return id }
      slot = (slot + 1) & (keySlots.count - 1)
    }
    return -1
  }

  private func home(_ hash: UInt64, _ slotCount: Int) -> Int {
    let shift = UInt64(64 - slotCount.trailingZeroBitCount)
    return Int(truncatingIfNeeded: (hash &* 0x9E37_79B9_7F4A_7C15) >> shift)
  }
}
