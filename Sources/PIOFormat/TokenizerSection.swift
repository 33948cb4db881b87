import PIOBase

/// The tokenizer of a `.piom` file: views of its tables, straight from the mapping. Layout: `formats/TOKENIZER.md`.
extension TokenizerTables {
  /// Checks a section and makes the views, which live as long as its bytes.
  ///
  /// `bytes` start on a multiple of 4 (64 in a file); `vocabSize` is the number of rows of the embedding table.
  /// Throws for anything that does not add up. Allocates a few words, reads each table once.
  public init(_ bytes: UnsafeRawBufferPointer, vocabSize: Int) throws(TokenizerSectionError) {
    guard bytes.count >= TokenizerLayout.headerByteCount, let base = bytes.baseAddress else {
      throw .wrongSize(neededBytes: TokenizerLayout.headerByteCount, foundBytes: bytes.count)
    }
    guard Int(bitPattern: base) % 4 == 0 else { throw .misaligned }
    let header = TokenizerHeader(bytes)
    let layout = try header.layout(vocabSize: vocabSize)
    let ranges = layout.ranges()
    try checkGaps(bytes, between: ranges)
    self.init()
    try setCodes(header, layout)
    setViews(bytes, layout, ranges)
    try checkAllOffsets(layout)
    try checkAllIDs(layout)
    try checkAdded(below: layout.pieceCount)
  }

  private mutating func setCodes(
    _ header: TokenizerHeader, _ layout: TokenizerLayout
  ) throws(TokenizerSectionError) {
    flags = try header.flags()
    steps = (
      try header.step(0), try header.step(1), try header.step(2), try header.step(3)
    )
    metaspace = try header.code("Metaspace scheme", .metaspace) { .init(rawValue: $0) }
    decoder = try header.code("decoder", .decoder) { .init(rawValue: $0) }
    strippedSpaces = try header.count(
      .strippedSpaces, "stripped spaces", TokenizerLayout.Limit.strippedSpaces)
    unknownID = Int32(bitPattern: header[.unknownID])
    rawAddedCount = try header.count(.rawAddedCount, "raw added tokens", layout.addedCount)
  }

  private mutating func setViews(
    _ bytes: UnsafeRawBufferPointer, _ layout: TokenizerLayout, _ ranges: [Range<Int>]
  ) {
    func view<T>(_ i: Int, as type: T.Type) -> UnsafeBufferPointer<T> {
      UnsafeRawBufferPointer(rebasing: bytes[ranges[i]]).bindMemory(to: type)
    }
    byteIDs = view(0, as: Int32.self)
    let template = view(1, as: Int32.self)
    beginIDs = UnsafeBufferPointer(rebasing: template[..<layout.beginCount])
    endIDs = UnsafeBufferPointer(rebasing: template[layout.beginCount...])
    textOffsets = view(2, as: UInt32.self)
    texts = view(3, as: UInt8.self)
    pieceFlags = view(4, as: UInt8.self)
    keyOffsets = layout.hasKeys ? view(5, as: UInt32.self) : textOffsets
    keys = layout.hasKeys ? view(6, as: UInt8.self) : texts
    keySlots = view(7, as: Int32.self)
    merges = view(8, as: Int32.self)
    mergeSlots = view(9, as: Int32.self)
    added = view(10, as: Int32.self)
    addedOffsets = view(11, as: UInt32.self)
    addedBytes = view(12, as: UInt8.self)
  }

  private mutating func checkAllOffsets(
    _ layout: TokenizerLayout
  ) throws(TokenizerSectionError) {
    typealias Limit = TokenizerLayout.Limit
    longestPiece = try checkOffsets(
      "piece offset", textOffsets, texts.count, longest: Limit.pieceBytes)
    if layout.hasKeys {
      _ = try checkOffsets("key offset", keyOffsets, keys.count, longest: Limit.pieceBytes)
    }
    _ = try checkOffsets(
      "added token offset", addedOffsets, addedBytes.count, longest: Limit.patternBytes)
  }

  private func checkAllIDs(_ layout: TokenizerLayout) throws(TokenizerSectionError) {
    let limit = layout.pieceCount
    try checkIDs("byte piece", byteIDs, from: -1, below: limit)
    // Begin and end stand in one table.
    let template = UnsafeBufferPointer(
      start: beginIDs.baseAddress, count: layout.beginCount + layout.endCount)
    try checkIDs("template token", template, from: 0, below: limit)
    try checkIDs("merge", merges, from: 0, below: limit)
    try checkIDs("key slot", keySlots, from: -1, below: limit)
    try checkIDs("merge slot", mergeSlots, from: -1, below: layout.mergeCount)
    guard unknownID >= -1, Int(unknownID) < limit else {
      throw .outOfRange(what: "unknown piece", index: 0, found: Int(unknownID), limit: limit)
    }
  }

  /// Ids in range, flags known, patterns not empty and strictly ascending within each group.
  private func checkAdded(below limit: Int) throws(TokenizerSectionError) {
    for i in 0..<added.count / 2 {
      let (id, bits) = (added[2 * i], added[2 * i + 1])
      guard id >= 0, Int(id) < limit else {
        throw .outOfRange(what: "added token", index: i, found: Int(id), limit: limit)
      }
      guard bits >= 0, bits < 8 else { throw .unknownCode(field: "added flags", found: Int(bits)) }
      let pattern = addedBytes[Int(addedOffsets[i])..<Int(addedOffsets[i + 1])]
      guard !pattern.isEmpty, String(validating: pattern, as: UTF8.self) != nil else {
        throw .unknownCode(field: "text of added token", found: i)
      }
      guard i > 0, i != rawAddedCount else { continue }
      let previous = addedBytes[Int(addedOffsets[i - 1])..<Int(addedOffsets[i])]
      guard previous.lexicographicallyPrecedes(pattern) else {
        throw .notAscending(what: "added token", index: i)
      }
    }
  }
}

/// The tables fill the section, and what is between them is 0.
private func checkGaps(
  _ bytes: UnsafeRawBufferPointer, between ranges: [Range<Int>]
) throws(TokenizerSectionError) {
  let needed = ranges.last?.upperBound ?? 0
  guard bytes.count == needed else {
    throw .wrongSize(neededBytes: needed, foundBytes: bytes.count)
  }
  for (range, next) in zip(ranges, ranges.dropFirst()) {
    if let at = (range.upperBound..<next.lowerBound).first(where: { bytes[$0] != 0 }) {
      throw .unknownCode(field: "padding byte \(at)", found: Int(bytes[at]))
    }
  }
}

/// The header's words, with their checks.
private struct TokenizerHeader {
  private let bytes: UnsafeRawBufferPointer

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  subscript(word: TokenizerLayout.Word) -> UInt32 {
    UInt32(littleEndian: bytes.load(fromByteOffset: 4 * word.rawValue, as: UInt32.self))
  }

  func count(
    _ word: TokenizerLayout.Word, _ what: String, _ limit: Int
  ) throws(TokenizerSectionError) -> Int {
    let found = Int(self[word])
    guard found <= limit else { throw .tooMany(what: what, found: found, limit: limit) }
    return found
  }

  func slotCount(
    _ word: TokenizerLayout.Word, _ what: String
  ) throws(TokenizerSectionError) -> Int {
    let found = try count(word, what, TokenizerLayout.Limit.slots)
    guard found == 0 || (found >= 64 && found & (found - 1) == 0) else {
      throw .unknownCode(field: "number of \(what)", found: found)
    }
    return found
  }

  /// Magic, version, reserved bytes.
  func checkStart() throws(TokenizerSectionError) {
    guard self[.magic] == TokenizerLayout.magic else { throw .badMagic(found: self[.magic]) }
    guard self[.version] == TokenizerLayout.version else {
      throw .unsupportedVersion(found: self[.version], supported: TokenizerLayout.version)
    }
    let reserved = 4 * TokenizerLayout.Word.allCases.count..<TokenizerLayout.headerByteCount
    if let at = reserved.first(where: { bytes[$0] != 0 }) {
      throw .unknownCode(field: "reserved byte \(at)", found: Int(bytes[at]))
    }
  }

  /// Every count.
  func layout(vocabSize: Int) throws(TokenizerSectionError) -> TokenizerLayout {
    typealias Limit = TokenizerLayout.Limit
    try checkStart()
    var layout = TokenizerLayout()
    layout.pieceCount = try count(.pieceCount, "pieces", min(Limit.pieces, max(0, vocabSize)))
    layout.textByteCount = try count(.textByteCount, "bytes of pieces", Limit.bytes)
    layout.keyByteCount = try count(.keyByteCount, "bytes of keys", Limit.bytes)
    layout.keySlotCount = try slotCount(.keySlotCount, "key slots")
    layout.mergeCount = try count(.mergeCount, "merges", Limit.merges)
    layout.mergeSlotCount = try slotCount(.mergeSlotCount, "merge slots")
    layout.addedCount = try count(.addedCount, "added tokens", Limit.added)
    layout.addedByteCount = try count(.addedByteCount, "bytes of added tokens", Limit.bytes)
    layout.beginCount = try count(.beginCount, "begin tokens", Limit.templateIDs)
    layout.endCount = try count(.endCount, "end tokens", Limit.templateIDs)
    return layout
  }

  func flags() throws(TokenizerSectionError) -> TokenizerTables.Flags {
    let flags = TokenizerTables.Flags(rawValue: self[.flags])
    guard TokenizerTables.Flags.all.isSuperset(of: flags) else {
      throw .unknownCode(field: "flags", found: Int(self[.flags]))
    }
    return flags
  }

  func step(_ i: Int) throws(TokenizerSectionError) -> TokenizerTables.Step {
    let raw = UInt8(truncatingIfNeeded: self[.steps] >> UInt32(8 * i))
    guard let step = TokenizerTables.Step(rawValue: raw) else {
      throw .unknownCode(field: "pre-tokenizer step", found: Int(raw))
    }
    return step
  }

  func code<T>(
    _ field: String, _ word: TokenizerLayout.Word, _ make: (UInt8) -> T?
  ) throws(TokenizerSectionError) -> T {
    guard let raw = UInt8(exactly: self[word]), let value = make(raw) else {
      throw .unknownCode(field: field, found: Int(self[word]))
    }
    return value
  }
}

/// Offsets start at 0, ascend and end at `end`; returns the longest step.
private func checkOffsets(
  _ what: String, _ offsets: UnsafeBufferPointer<UInt32>, _ end: Int, longest limit: Int
) throws(TokenizerSectionError) -> Int {
  guard let first = offsets.first, first == 0 else {
    throw .outOfRange(what: what, index: 0, found: Int(offsets.first ?? 0), limit: 1)
  }
  // A descending pair wraps around to a huge step, so one maximum checks order and length.
  var (longest, greatest): (UInt32, UInt32) = (0, 0)
  for i in 1..<offsets.count {
    longest = max(longest, offsets[i] &- offsets[i - 1])
    greatest = max(greatest, offsets[i])
  }
  guard longest <= UInt32(limit), Int(greatest) <= end else {
    let steps = zip(offsets, offsets.dropFirst())
    let at = steps.enumerated().first { $1.1 < $1.0 || $1.1 - $1.0 > UInt32(limit) }?.offset ?? 0
    throw .notAscending(what: what, index: at)
  }
  guard Int(offsets[offsets.count - 1]) == end else {
    throw .outOfRange(
      what: what, index: offsets.count - 1, found: Int(offsets[offsets.count - 1]), limit: end + 1)
  }
  return Int(longest)
}

/// Every id is at least `low` (0 or −1) and below `limit`.
private func checkIDs(
  _ what: String, _ ids: UnsafeBufferPointer<Int32>, from low: Int32, below limit: Int
) throws(TokenizerSectionError) {
  var (least, most) = (Int32.max, Int32.min)
  for id in ids {
    least = min(least, id)
    most = max(most, id)
  }
  guard ids.isEmpty || (least >= low && Int(most) < limit) else {
    let at = ids.firstIndex { $0 < low || Int($0) >= limit } ?? 0
    throw .outOfRange(what: what, index: at, found: Int(ids[at]), limit: limit)
  }
}
