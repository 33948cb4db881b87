extension TokenizerContents {
  /// The section's bytes. The same contents give the same bytes.
  ///
  /// Throws where a count is above the format's limits, or an id names no piece.
  public func encoded() throws(TokenizerSectionError) -> [UInt8] {
    try checkCounts()
    try checkIDs()
    let (rawAdded, normalizedAdded) = sortedAdded()
    let allAdded = rawAdded + normalizedAdded
    let keys = lookedUpKeys
    let keySlots = try Self.keySlots(keys)
    let mergeSlots = try mergeSlots()
    let layout = try layout(keys, keySlotCount: keySlots.count, mergeSlotCount: mergeSlots.count)

    var out = SectionBytes()
    header(layout, rawAddedCount: rawAdded.count, &out)
    out.words(byteIDs)
    out.words(beginIDs + endIDs)
    out.strings(pieces.map(\.text))
    out.align()
    out.bytes += pieces.map(\.flags.rawValue)
    if layout.hasKeys { out.strings(keys.map { $0 ?? [] }) }
    out.words(keySlots)
    out.words(merges.flatMap { [$0.left, $0.right, $0.result] })
    out.words(mergeSlots)
    out.words(allAdded.flatMap { [$0.id, $0.bits] })
    out.strings(allAdded.map(\.pattern))
    return out.bytes
  }

  /// A byte-level tokenizer looks words up only where they go before merges.
  private var lookedUpKeys: [[UInt8]?] {
    flags.contains(.byteLevel) && !flags.contains(.ignoreMerges) ? [] : pieces.map(\.key)
  }

  private func layout(
    _ keys: [[UInt8]?], keySlotCount: Int, mergeSlotCount: Int
  ) throws(TokenizerSectionError) -> TokenizerLayout {
    let sharesText = flags.contains(.byteLevel)
    var layout = TokenizerLayout()
    layout.pieceCount = pieces.count
    layout.textByteCount = pieces.reduce(0) { $0 + $1.text.count }
    layout.keyByteCount = sharesText ? 0 : keys.reduce(0) { $0 + ($1?.count ?? 0) }
    layout.keySlotCount = keySlotCount
    layout.mergeCount = merges.count
    layout.mergeSlotCount = mergeSlotCount
    layout.addedCount = added.count
    layout.addedByteCount = added.reduce(0) { $0 + $1.pattern.count }
    layout.beginCount = beginIDs.count
    layout.endCount = endIDs.count
    for bytes in [layout.textByteCount, layout.keyByteCount, layout.addedByteCount] {
      try bound("bytes of text", bytes, TokenizerLayout.Limit.bytes)
    }
    return layout
  }

  private func header(
    _ layout: TokenizerLayout, rawAddedCount: Int, _ out: inout SectionBytes
  ) {
    var packedSteps: UInt32 = 0
    for (i, step) in steps.enumerated() { packedSteps |= UInt32(step.rawValue) << (8 * i) }
    let words: [UInt32] = [
      TokenizerLayout.magic, TokenizerLayout.version, flags.rawValue, packedSteps,
      UInt32(metaspace.rawValue), UInt32(decoder.rawValue), UInt32(strippedSpaces),
      UInt32(bitPattern: unknownID), UInt32(layout.pieceCount), UInt32(layout.textByteCount),
      UInt32(layout.keyByteCount), UInt32(layout.keySlotCount), UInt32(layout.mergeCount),
      UInt32(layout.mergeSlotCount), UInt32(layout.addedCount), UInt32(rawAddedCount),
      UInt32(layout.addedByteCount), UInt32(layout.beginCount), UInt32(layout.endCount),
    ]
    words.forEach { out.word(Int32(bitPattern: $0)) }
    out.bytes += [UInt8](
      repeating: 0, count: TokenizerLayout.headerByteCount - out.bytes.count)
  }

  private func checkCounts() throws(TokenizerSectionError) {
    typealias Limit = TokenizerLayout.Limit
    try bound("pieces", pieces.count, Limit.pieces)
    try bound("merges", merges.count, Limit.merges)
    try bound("added tokens", added.count, Limit.added)
    try bound("pre-tokenizer steps", steps.count, 4)
    try bound("begin tokens", beginIDs.count, Limit.templateIDs)
    try bound("end tokens", endIDs.count, Limit.templateIDs)
    try bound("stripped spaces", strippedSpaces, Limit.strippedSpaces)
    for piece in pieces {
      try bound(
        "bytes of one piece", max(piece.text.count, piece.key?.count ?? 0), Limit.pieceBytes)
    }
    for token in added {
      try bound("bytes of one added token", token.pattern.count, Limit.patternBytes)
      if token.pattern.isEmpty { throw .unknownCode(field: "text of added token", found: 0) }
    }
  }

  private func checkIDs() throws(TokenizerSectionError) {
    guard byteIDs.count == 256 else {
      throw .tooMany(what: "byte pieces", found: byteIDs.count, limit: 256)
    }
    try inRange("byte piece", byteIDs, from: -1)
    try inRange("unknown piece", [unknownID], from: -1)
    try inRange("begin token", beginIDs, from: 0)
    try inRange("end token", endIDs, from: 0)
    try inRange("added token", added.map(\.id), from: 0)
    try inRange("merge", merges.flatMap { [$0.left, $0.right, $0.result] }, from: 0)
  }

  private func bound(_ what: String, _ found: Int, _ limit: Int) throws(TokenizerSectionError) {
    guard found >= 0, found <= limit else {
      throw .tooMany(what: what, found: found, limit: limit)
    }
  }

  private func inRange(
    _ what: String, _ ids: [Int32], from low: Int32
  ) throws(TokenizerSectionError) {
    for (i, id) in ids.enumerated() where id < low || Int(id) >= pieces.count {
      throw .outOfRange(what: what, index: i, found: Int(id), limit: pieces.count)
    }
  }

  /// Raw tokens, then normalized ones, each sorted by bytes; of equal patterns the first stays.
  private func sortedAdded() -> ([AddedToken], [AddedToken]) {
    func sorted(_ tokens: [AddedToken]) -> [AddedToken] {
      tokens.sorted { $0.pattern.lexicographicallyPrecedes($1.pattern) }
    }
    return (sorted(added.filter { !$0.normalized }), sorted(added.filter(\.normalized)))
  }

  private static func keySlots(_ keys: [[UInt8]?]) throws(TokenizerSectionError) -> [Int32] {
    let ids = keys.indices.filter { !(keys[$0] ?? []).isEmpty }
    return try slots(ids.map { Int32($0) }) { id, slotCount in
      TokenizerLayout.slot(key: keys[Int(id)] ?? [], slotCount: slotCount)
    }
  }

  /// Of two merges of one pair the later counts.
  private func mergeSlots() throws(TokenizerSectionError) -> [Int32] {
    var last: [UInt64: Int32] = [:]
    for (rank, merge) in merges.enumerated() {
      last[UInt64(UInt32(merge.left)) << 32 | UInt64(UInt32(merge.right))] = Int32(rank)
    }
    return try Self.slots(last.values.sorted()) { rank, slotCount in
      let merge = merges[Int(rank)]
      return TokenizerLayout.slot(left: merge.left, right: merge.right, slotCount: slotCount)
    }
  }

  /// An open-addressing table, at most half full, every value within `probeLimit` of its home.
  private static func slots(
    _ values: [Int32], home: (Int32, Int) -> Int
  ) throws(TokenizerSectionError) -> [Int32] {
    if values.isEmpty { return [] }
    var count = 64
    while count < 2 * values.count { count *= 2 }
    while count <= TokenizerLayout.Limit.slots {
      if let table = table(values, count, home) { return table }
      count *= 2
    }
    throw .tooMany(what: "hash slots", found: count, limit: TokenizerLayout.Limit.slots)
  }

  private static func table(
    _ values: [Int32], _ count: Int, _ home: (Int32, Int) -> Int
  ) -> [Int32]? {
    var table = [Int32](repeating: -1, count: count)
    for value in values {
      let start = home(value, count)
      let probes = 0..<min(TokenizerLayout.probeLimit, count)
      guard let free = probes.first(where: { table[(start + $0) & (count - 1)] < 0 })
      else { return nil }
      table[(start + free) & (count - 1)] = value
    }
    return table
  }
}

extension TokenizerContents.AddedToken {
  /// As in the file.
  fileprivate var bits: Int32 {
    (stripsLeft ? 1 : 0) | (stripsRight ? 2 : 0) | (singleWord ? 4 : 0)
  }
}

/// Bytes in the order of the file.
private struct SectionBytes {
  var bytes: [UInt8] = []

  mutating func word(_ value: Int32) {
    let bits = UInt32(bitPattern: value)
    for shift: UInt32 in [0, 8, 16, 24] { bytes.append(UInt8(truncatingIfNeeded: bits >> shift)) }
  }

  /// A table of its own.
  mutating func words(_ values: [Int32]) {
    align()
    for value in values { word(value) }
  }

  mutating func align() {
    let count = TokenizerLayout.roundedUp(bytes.count) - bytes.count
    bytes += [UInt8](repeating: 0, count: count)
  }

  /// Offsets (one more than strings), then the bytes.
  mutating func strings(_ strings: [[UInt8]]) {
    align()
    var offset: Int32 = 0
    word(0)
    for string in strings {
      offset += Int32(string.count)
      word(offset)
    }
    align()
    for string in strings { bytes += string }
  }
}
