import PIOBase

/// Byte-pair encoding of one word: its symbols, then the merges, lowest rank first, leftmost first.
///
/// A heap holds the candidate merges, a linked list the symbols, so a word of n symbols takes
/// O(n log n). The scratch arrays are kept from word to word.
struct WordMerger {
  private struct Symbol {
    var id: Int32
    var previous: Int32
    var next: Int32
    var alive = true
  }

  private let tables: TokenizerTables
  /// Pieces that no word may become.
  private let refused: ControlTokens?
  private var symbols: [Symbol] = []
  /// rank << 32 | position of the left symbol, a binary heap, least first.
  private var heap: [UInt64] = []

  init(_ tables: TokenizerTables, refused: ControlTokens?) {
    self.tables = tables
    self.refused = refused
  }

  /// Appends the word's pieces. `word` is valid UTF-8, or any bytes for a byte-level tokenizer.
  mutating func append(_ word: UnsafeBufferPointer<UInt8>, to out: inout [Int32]) {
    if word.isEmpty { return }
    if tables.flags.contains(.ignoreMerges) {
      let id = piece(word)
      if id >= 0 {
        out.append(id)
        return
      }
    }
    symbols.removeAll(keepingCapacity: true)
    if tables.flags.contains(.byteLevel) { splitBytes(word) } else { splitCharacters(word) }
    link()
    merge()
    for symbol in symbols where symbol.alive { out.append(symbol.id) }
  }

  private mutating func splitBytes(_ word: UnsafeBufferPointer<UInt8>) {
    var unknown = false
    for byte in word {
      add(tables.byteIDs[Int(byte)], &unknown)
    }
    flush(&unknown)
  }

  private mutating func splitCharacters(_ word: UnsafeBufferPointer<UInt8>) {
    var (i, unknown) = (0, false)
    while i < word.count {
      let end = i + Character8(word, at: i).count
      let character = UnsafeBufferPointer(rebasing: word[i..<end])
      let id = piece(character)
      // Byte pieces leave an unknown character before them pending, as the reference does.
      if id >= 0 || !addBytes(character) { add(id, &unknown) }
      i = end
    }
    flush(&unknown)
  }

  /// False where a byte of the character has no piece: then none is taken.
  private mutating func addBytes(_ character: UnsafeBufferPointer<UInt8>) -> Bool {
    guard tables.flags.contains(.byteFallback),
      character.allSatisfy({ tables.byteIDs[Int($0)] >= 0 })
    else { return false }
    for byte in character { push(tables.byteIDs[Int(byte)]) }
    return true
  }

  private mutating func add(_ id: Int32, _ unknown: inout Bool) {
    if id >= 0 {
      flush(&unknown)
      push(id)
    } else if tables.unknownID >= 0 {
      if !tables.flags.contains(.fuseUnknown) { flush(&unknown) }
      unknown = true
    }
  }

  private mutating func flush(_ unknown: inout Bool) {
    if unknown { push(tables.unknownID) }
    unknown = false
  }

  private mutating func push(_ id: Int32) {
    symbols.append(Symbol(id: id, previous: -1, next: -1))
  }

  private func piece(_ key: UnsafeBufferPointer<UInt8>) -> Int32 {
    let id = tables.piece(key)
    return isRefused(id) ? -1 : id
  }

  /// The rank of the merge of two neighbours, or −1.
  private func mergeRank(_ left: Int, _ right: Int) -> Int32 {
    let rank = tables.rank(left: symbols[left].id, right: symbols[right].id)
    return rank >= 0 && isRefused(tables.merges[3 * Int(rank) + 2]) ? -1 : rank
  }

  private func isRefused(_ id: Int32) -> Bool { refused?.contains(id) ?? false }

  private mutating func link() {
    heap.removeAll(keepingCapacity: true)
    for i in symbols.indices {
      symbols[i].previous = Int32(i) - 1
      symbols[i].next = i + 1 < symbols.count ? Int32(i) + 1 : -1
    }
    for i in symbols.indices.dropLast() {
      let rank = mergeRank(i, i + 1)
      if rank >= 0 { heap.append(candidate(rank, i)) }
    }
    for i in stride(from: heap.count / 2 - 1, through: 0, by: -1) { sink(i) }
  }

  private mutating func merge() {
    while let top = pop() {
      let (rank, left) = (Int(top >> 32), Int(top & 0xFFFF_FFFF))
      guard symbols[left].alive, symbols[left].next >= 0 else { continue }
      let right = Int(symbols[left].next)
      let now = mergeRank(left, right)
      let result = tables.merges[3 * rank + 2]
      // The entry may be older than a merge beside it; what counts is what the pair becomes.
      guard now >= 0, tables.merges[3 * Int(now) + 2] == result else { continue }
      symbols[left].id = result
      symbols[left].next = symbols[right].next
      symbols[right].alive = false
      if symbols[right].next >= 0 { symbols[Int(symbols[right].next)].previous = Int32(left) }
      if symbols[left].previous >= 0 { consider(Int(symbols[left].previous), left) }
      if symbols[left].next >= 0 { consider(left, Int(symbols[left].next)) }
    }
  }

  private mutating func consider(_ left: Int, _ right: Int) {
    let rank = mergeRank(left, right)
    guard rank >= 0 else { return }
    heap.append(candidate(rank, left))
    var i = heap.count - 1
    while i > 0 && heap[i] < heap[(i - 1) / 2] {
      heap.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  private func candidate(_ rank: Int32, _ position: Int) -> UInt64 {
    UInt64(rank) << 32 | UInt64(position)
  }

  private mutating func pop() -> UInt64? {
    guard let top = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      sink(0)
    }
    return top
  }

  private mutating func sink(_ start: Int) {
    var i = start
    while 2 * i + 1 < heap.count {
      var child = 2 * i + 1
      if child + 1 < heap.count && heap[child + 1] < heap[child] { child += 1 }
      if heap[i] <= heap[child] { return }
      heap.swapAt(i, child)
      i = child
    }
  }
}
