/// The text of an answer, token by token, in whole characters of valid UTF-8.
///
/// Joined, its outputs are what `Tokenizer.decode` gives for the ids without special tokens, with
/// one exception: in a run of byte tokens (`<0xNN>`) that is no UTF-8 as a whole, `decode` replaces
/// every byte, while the stream has already given out the run's whole characters and replaces only
/// the bytes that belong to none. Allocates nothing.
public struct TextStream {
  private let tokenizer: Tokenizer
  private let buffer: UnsafeMutableBufferPointer<UInt8>
  private var count = 0
  /// The bytes of a character whose end has not come yet.
  private var pending: (UInt8, UInt8, UInt8) = (0, 0, 0)
  private var pendingCount = 0
  private var missingCount = 0
  /// What the next byte of the pending character may be.
  private var least: UInt8 = 0x80
  private var most: UInt8 = 0xBF
  private var spacesToDrop: Int
  private var isFirst = true

  /// `buffer` holds at least `maxPieceByteCount + 16` bytes and outlives the stream; every output
  /// lies in it until the next call.
  public init(_ tokenizer: Tokenizer, buffer: UnsafeMutableBufferPointer<UInt8>) {
    precondition(
      buffer.count >= tokenizer.maxPieceByteCount + 16, "TextStream: the buffer is too small")
    self.tokenizer = tokenizer
    self.buffer = buffer
    spacesToDrop =
      tokenizer.tables.decoder == .byteFallback ? tokenizer.tables.strippedSpaces : 0
  }

  /// The characters that end in this token. Special tokens and ids without a piece give none.
  public mutating func next(_ id: Int32) -> UnsafeBufferPointer<UInt8> {
    count = 0
    let flags = tokenizer.pieceFlags(id)
    guard flags.contains(.known), !flags.contains(.special) else { return output }
    let isByte = flags.contains(.byte)
    // Characters do not reach from byte tokens into others, or back.
    if tokenizer.tables.decoder == .byteFallback && !isByte { replacePending(eachByte: true) }
    let dropsSpaces = isFirst && tokenizer.dropsSpaces(of: flags)
    for byte in tokenizer.pieceBytes(id) where !(dropsSpaces && byte == 0x20) {
      take(byte, eachByte: isByte)
    }
    isFirst = false
    return output
  }

  /// What is left at the end: U+FFFD for a character that never ended.
  public mutating func finish() -> UnsafeBufferPointer<UInt8> {
    count = 0
    replacePending(eachByte: tokenizer.tables.decoder == .byteFallback)
    return output
  }

  private var output: UnsafeBufferPointer<UInt8> {
    UnsafeBufferPointer(rebasing: UnsafeBufferPointer(buffer)[..<count])
  }

  private mutating func take(_ byte: UInt8, eachByte: Bool) {
    if missingCount > 0 {
      if byte >= least && byte <= most {
        missingCount -= 1
        if missingCount == 0 { emitPending(then: byte) } else { hold(byte) }
        return
      }
      replacePending(eachByte: eachByte)
    }
    switch byte {
    case 0x00...0x7F: emitASCII(byte)
    case 0xC2...0xDF: begin(byte, missing: 1, 0x80, 0xBF)
    case 0xE0: begin(byte, missing: 2, 0xA0, 0xBF)
    case 0xED: begin(byte, missing: 2, 0x80, 0x9F)
    case 0xE1...0xEF: begin(byte, missing: 2, 0x80, 0xBF)
    case 0xF0: begin(byte, missing: 3, 0x90, 0xBF)
    case 0xF1...0xF3: begin(byte, missing: 3, 0x80, 0xBF)
    case 0xF4: begin(byte, missing: 3, 0x80, 0x8F)
    default: emitReplacement()
    }
  }

  private mutating func begin(_ byte: UInt8, missing: Int, _ least: UInt8, _ most: UInt8) {
    pendingCount = 0
    hold(byte)
    missingCount = missing
    (self.least, self.most) = (least, most)
  }

  private mutating func hold(_ byte: UInt8) {
    switch pendingCount {
    case 0: pending.0 = byte
    case 1: pending.1 = byte
    default: pending.2 = byte
    }
    pendingCount += 1
    (least, most) = (0x80, 0xBF)
  }

  private mutating func emitPending(then last: UInt8) {
    spacesToDrop = 0
    emit(pending.0)
    if pendingCount > 1 { emit(pending.1) }
    if pendingCount > 2 { emit(pending.2) }
    emit(last)
    pendingCount = 0
  }

  private mutating func emitASCII(_ byte: UInt8) {
    if spacesToDrop > 0 && byte == 0x20 {
      spacesToDrop -= 1
      return
    }
    spacesToDrop = 0
    emit(byte)
  }

  /// The start of a character without its end: one U+FFFD, or one a byte.
  private mutating func replacePending(eachByte: Bool) {
    if missingCount == 0 { return }
    for _ in 0..<(eachByte ? pendingCount : 1) { emitReplacement() }
    (pendingCount, missingCount) = (0, 0)
  }

  private mutating func emitReplacement() {
    spacesToDrop = 0
    emit(0xEF)
    emit(0xBF)
    emit(0xBD)
  }

  private mutating func emit(_ byte: UInt8) {
    buffer[count] = byte
    count += 1
  }
}
