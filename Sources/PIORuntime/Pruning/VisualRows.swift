/// The visual rows of the prompt in work: one span a picture, in the arena.
struct VisualRows {
  /// First row and number of rows of each picture, `(images, 2)`.
  let spans: UnsafeMutableBufferPointer<Int32>
  /// For each row of a picture, which of its visual tokens it is; as long as a prompt may be.
  let origins: UnsafeMutableBufferPointer<Int32>
  var imageCount = 0

  init(spans: UnsafeMutableBufferPointer<Int32>, origins: UnsafeMutableBufferPointer<Int32>) {
    self.spans = spans
    self.origins = origins
  }

  mutating func append(first: Int, count: Int) {
    self[imageCount] = first..<(first + count)
    for index in 0..<count { origins[first + index] = Int32(index) }
    imageCount += 1
  }

  subscript(image: Int) -> Range<Int> {
    get {
      let first = Int(spans[2 * image])
      return first..<(first + Int(spans[2 * image + 1]))
    }
    nonmutating set {
      spans[2 * image] = Int32(newValue.lowerBound)
      spans[2 * image + 1] = Int32(newValue.count)
    }
  }

  /// Where the last picture's rows end.
  var end: Int { imageCount > 0 ? self[imageCount - 1].upperBound : 0 }

  var count: Int { (0..<imageCount).reduce(0) { $0 + self[$1].count } }
}

/// Steele et al. 2014, "Fast splittable pseudorandom number generators".
struct SplitMix64 {
  var state: UInt64

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
