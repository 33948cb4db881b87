/// Unicode NFC of valid UTF-8, with the reference tokenizer's Unicode tables.
///
/// Runs of characters between starters are decomposed, ordered by combining class and composed:
/// O(n log n) for n characters, also where one starter carries n marks.
/// Source: Unicode Standard Annex #15.
package func compose(_ text: UnsafeBufferPointer<UInt8>) -> [UInt8] {
  if text.allSatisfy({ $0 < 0x80 }) { return Array(text) }
  var composer = Composer()
  var i = 0
  while i < text.count {
    let character = Character8(text, at: i)
    composer.add(character.scalar)
    i += character.count
  }
  composer.flush()
  return composer.out
}

private struct Composer {
  private(set) var out: [UInt8] = []
  /// Decomposed characters since the last place where nothing before can change any more.
  private var run: [(scalar: UInt32, combiningClass: UInt8)] = []
  private var marks: [(scalar: UInt32, combiningClass: UInt8)] = []

  mutating func add(_ scalar: UInt32) {
    // No character below U+0300 composes with one before it, so a run can end there.
    if scalar < 0x300 { flush() }
    if scalar < 0xC0 {
      run.append((scalar, 0))
    } else if scalar >= 0xAC00 && scalar < 0xAC00 + 11_172 {
      addHangul(scalar - 0xAC00)
    } else {
      decompose(scalar)
    }
  }

  mutating func flush() {
    order()
    composeRun()
    for (scalar, _) in run { append(scalar) }
    run.removeAll(keepingCapacity: true)
  }

  private mutating func addHangul(_ index: UInt32) {
    run.append((0x1100 + index / 588, 0))
    run.append((0x1161 + index % 588 / 28, 0))
    if index % 28 != 0 { run.append((0x11A7 + index % 28, 0)) }
  }

  private mutating func decompose(_ scalar: UInt32) {
    guard let at = find(scalar, in: decompositionKeys) else {
      run.append((scalar, combiningClass(scalar)))
      return
    }
    let count = Int(decompositionKeys[at] & 0xFF)
    for i in decompositionStarts[at]..<decompositionStarts[at] + count {
      let part = decompositionScalars[i]
      run.append((part, combiningClass(part)))
    }
  }

  /// Stable sort by combining class of every stretch of non-starters.
  private mutating func order() {
    var start = 0
    while start < run.count {
      if run[start].combiningClass == 0 {
        start += 1
        continue
      }
      var end = start
      while end < run.count && run[end].combiningClass != 0 { end += 1 }
      if end - start > 1 {
        let sorted = run[start..<end].enumerated().sorted {
          ($0.element.combiningClass, $0.offset) < ($1.element.combiningClass, $1.offset)
        }
        for (i, entry) in sorted.enumerated() { run[start + i] = entry.element }
      }
      start = end
    }
  }

  /// Each character joins the last starter if a composite exists and nothing between blocks it.
  private mutating func composeRun() {
    marks.removeAll(keepingCapacity: true)
    var starter = -1
    var lastClass: UInt8 = 0
    for entry in run {
      let isAdjacent = marks.count - 1 == starter
      let isBlocked = !isAdjacent && (lastClass == 0 || lastClass >= entry.combiningClass)
      if starter >= 0, !isBlocked,
        let composite = composite(marks[starter].scalar, entry.scalar)
      {
        marks[starter].scalar = composite
        continue
      }
      if entry.combiningClass == 0 { starter = marks.count }
      lastClass = entry.combiningClass
      marks.append(entry)
    }
    swap(&run, &marks)
  }

  private func composite(_ first: UInt32, _ second: UInt32) -> UInt32? {
    if first >= 0x1100 && first < 0x1113 && second >= 0x1161 && second < 0x1176 {
      return 0xAC00 + ((first - 0x1100) * 21 + second - 0x1161) * 28
    }
    if first >= 0xAC00 && first < 0xAC00 + 11_172 && (first - 0xAC00) % 28 == 0
      && second > 0x11A7 && second < 0x11C3
    {
      return first + second - 0x11A7
    }
    return compositionPairs.withUnsafeBufferPointer { pairs in
      let wanted = UInt64(first) << 32 | UInt64(second)
      var (low, high) = (0, pairs.count / 3)
      while low < high {
        let middle = (low + high) / 2
        let key = UInt64(pairs[3 * middle]) << 32 | UInt64(pairs[3 * middle + 1])
        if key == wanted { return pairs[3 * middle + 2] }
        if key < wanted { low = middle + 1 } else { high = middle }
      }
      return nil
    }
  }

  private func combiningClass(_ scalar: UInt32) -> UInt8 {
    if scalar < 0x300 { return 0 }
    guard let at = find(scalar, in: combiningClasses) else { return 0 }
    return UInt8(truncatingIfNeeded: combiningClasses[at])
  }

  private mutating func append(_ scalar: UInt32) {
    guard let scalar = Unicode.Scalar(scalar) else { return }
    out += UTF8.encode(scalar) ?? UTF8.encodedReplacementCharacter
  }

  /// Where `scalar << 8 | …` stands in an ascending table.
  private func find(_ scalar: UInt32, in table: [UInt32]) -> Int? {
    var (low, high) = (0, table.count)
    while low < high {
      let middle = (low + high) / 2
      if table[middle] >> 8 < scalar { low = middle + 1 } else { high = middle }
    }
    return low < table.count && table[low] >> 8 == scalar ? low : nil
  }
}

/// Where each decomposition starts in `decompositionScalars`.
private let decompositionStarts: [Int] = {
  var start = 0
  return decompositionKeys.map { key in
    defer { start += Int(key & 0xFF) }
    return start
  }
}()
