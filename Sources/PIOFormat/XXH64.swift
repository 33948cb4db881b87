/// XXH64, the checksum of `.piom` files, of any number of bytes in any chunks.
///
/// It finds damage, not forgery: whoever can change a file can change its checksums too, which is
/// why the reader validates everything that the checksums cover.
/// Source: Yann Collet, the xxHash specification, version 0.2.0 (2023).
public struct XXH64: Sendable {
  private var lanes: (UInt64, UInt64, UInt64, UInt64)
  private var pending: (UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0)
  private var pendingCount = 0
  private var byteCount: UInt64 = 0
  private let seed: UInt64

  public init(seed: UInt64 = 0) {
    self.seed = seed
    lanes = (seed &+ prime1 &+ prime2, seed &+ prime2, seed, seed &- prime1)
  }

  /// The checksum of `bytes`.
  public static func hash(_ bytes: UnsafeRawBufferPointer, seed: UInt64 = 0) -> UInt64 {
    var state = XXH64(seed: seed)
    state.update(bytes)
    return state.value
  }

  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    guard var next = bytes.baseAddress, bytes.count > 0 else { return }
    byteCount &+= UInt64(bytes.count)
    let end = next + bytes.count
    if pendingCount > 0 {
      let taken = min(32 - pendingCount, bytes.count)
      fill(next, taken)
      next += taken
      guard pendingCount == 32 else { return }
      withUnsafeBytes(of: pending) { lanes = consume(lanes, $0.baseAddress!, stripes: 1) }
      pendingCount = 0
    }
    let stripes = (end - next) / 32
    lanes = consume(lanes, next, stripes: stripes)
    next += stripes * 32
    fill(next, end - next)
  }

  /// The checksum of all bytes so far.
  public var value: UInt64 {
    var hash = byteCount >= 32 ? merged : seed &+ prime5
    hash &+= byteCount
    return withUnsafeBytes(of: pending) { tail in
      finish(hash, UnsafeRawBufferPointer(rebasing: tail[..<pendingCount]))
    }
  }

  private var merged: UInt64 {
    var hash = rotate(lanes.0, 1) &+ rotate(lanes.1, 7) &+ rotate(lanes.2, 12)
    hash &+= rotate(lanes.3, 18)
    hash = (hash ^ round(0, lanes.0)) &* prime1 &+ prime4
    hash = (hash ^ round(0, lanes.1)) &* prime1 &+ prime4
    hash = (hash ^ round(0, lanes.2)) &* prime1 &+ prime4
    return (hash ^ round(0, lanes.3)) &* prime1 &+ prime4
  }

  private mutating func fill(_ bytes: UnsafeRawPointer, _ count: Int) {
    guard count > 0 else { return }
    let start = pendingCount
    withUnsafeMutableBytes(of: &pending) {
      ($0.baseAddress! + start).copyMemory(from: bytes, byteCount: count)
    }
    pendingCount += count
  }
}

private let prime1: UInt64 = 0x9E37_79B1_85EB_CA87
private let prime2: UInt64 = 0xC2B2_AE3D_27D4_EB4F
private let prime3: UInt64 = 0x1656_67B1_9E37_79F9
private let prime4: UInt64 = 0x85EB_CA77_C2B2_AE63
private let prime5: UInt64 = 0x27D4_EB2F_1656_67C5

@inline(__always)
private func rotate(_ x: UInt64, _ count: UInt64) -> UInt64 { x << count | x >> (64 - count) }

@inline(__always)
private func round(_ lane: UInt64, _ input: UInt64) -> UInt64 {
  rotate(lane &+ input &* prime2, 31) &* prime1
}

@inline(__always)
private func load64(_ bytes: UnsafeRawPointer, _ offset: Int) -> UInt64 {
  UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
}

private func consume(
  _ lanes: (UInt64, UInt64, UInt64, UInt64), _ bytes: UnsafeRawPointer, stripes: Int
) -> (UInt64, UInt64, UInt64, UInt64) {
  var (a, b, c, d) = lanes
  var next = bytes
  for _ in 0..<stripes {
    a = round(a, load64(next, 0))
    b = round(b, load64(next, 8))
    c = round(c, load64(next, 16))
    d = round(d, load64(next, 24))
    next += 32
  }
  return (a, b, c, d)
}

private func finish(_ start: UInt64, _ tail: UnsafeRawBufferPointer) -> UInt64 {
  var hash = start
  var index = 0
  while index + 8 <= tail.count {
    hash = rotate(hash ^ round(0, load64(tail.baseAddress!, index)), 27) &* prime1 &+ prime4
    index += 8
  }
  if index + 4 <= tail.count {
    let word = UInt32(littleEndian: tail.loadUnaligned(fromByteOffset: index, as: UInt32.self))
    hash = rotate(hash ^ UInt64(word) &* prime1, 23) &* prime2 &+ prime3
    index += 4
  }
  while index < tail.count {
    hash = rotate(hash ^ UInt64(tail[index]) &* prime5, 11) &* prime1
    index += 1
  }
  hash = (hash ^ hash >> 33) &* prime2
  hash = (hash ^ hash >> 29) &* prime3
  return hash ^ hash >> 32
}
