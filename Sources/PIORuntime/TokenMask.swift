/// Which tokens may come next: a view of one bit a token, the lowest bit of a byte first.
public struct TokenMask: BitwiseCopyable {
  /// `(vocabSize + 7) / 8` bytes; the bits behind the last token mean nothing.
  public let bits: UnsafeBufferPointer<UInt8>

  /// `bits` must outlive the mask.
  public init(_ bits: UnsafeBufferPointer<UInt8>) { self.bits = bits }

  public func allows(_ token: Int) -> Bool { bits[token >> 3] & (1 << UInt8(token & 7)) != 0 }
}

extension TokenMask {
  /// The allowed token with the largest logit, the first of equals; nil: none is allowed.
  func argmax(_ logits: UnsafeMutableBufferPointer<Float>) -> Int? {
    var best: Int?
    for (index, byte) in bits.enumerated() where byte != 0 {
      var rest = byte
      while rest != 0 {
        let token = 8 * index + rest.trailingZeroBitCount
        if token >= logits.count { break }
        if best.map({ logits[token] > logits[$0] }) ?? true { best = token }
        rest &= rest - 1
      }
    }
    return best
  }

  /// Sets the weights of all other tokens to 0.
  func clearOthers(_ weights: UnsafeMutableBufferPointer<Float>) {
    for (index, byte) in bits.enumerated() where byte != .max {
      for token in (8 * index)..<min(8 * index + 8, weights.count) where !allows(token) {
        weights[token] = 0
      }
    }
  }
}
