/// The visual rows of the prompt in work: one span a picture, in the arena.
struct VisualRows {
  /// First row and number of rows of each picture, `(images, 2)`.
  let spans: UnsafeMutableBufferPointer<Int32>
  /// For each row of a picture, which of its visual tokens it is; as long as a prompt may be.
  let origins: UnsafeMutableBufferPointer<Int32>
  var imageCount = 0
  /// Tokens of a whole picture.
  let tokenCount: Int
  /// The encoder has handed over fewer rows of some picture than it has tokens.
  var isReduced = false

  init(
    spans: UnsafeMutableBufferPointer<Int32>, origins: UnsafeMutableBufferPointer<Int32>,
    tokenCount: Int
  ) {
    self.spans = spans
    self.origins = origins
    self.tokenCount = tokenCount
  }

  mutating func append(first: Int, count: Int) {
    self[imageCount] = first..<(first + count)
    for index in 0..<count { origins[first + index] = Int32(index) }
    imageCount += 1
  }

  mutating func removeAll() {
    imageCount = 0
    isReduced = false
  }

  /// Where `count` rows stand behind the first one when each picture has the places of all of its tokens. A class token
  /// that is none of them stands with the picture's first. Returns how many places there are.
  func place(_ count: Int, into offsets: UnsafeMutablePointer<Int32>) -> Int {
    var shift = 0
    var row = 0
    for image in 0..<imageCount {
      let span = self[image]
      while row < span.lowerBound {
        offsets[row] = Int32(row + shift)
        row += 1
      }
      for row in span { offsets[row] = Int32(span.lowerBound + shift + Int(max(0, origins[row]))) }
      row = span.upperBound
      shift += tokenCount - span.count
    }
    while row < count {
      offsets[row] = Int32(row + shift)
      row += 1
    }
    return count + shift
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
