/// The visual rows of the prompt in work: one span an image, in the arena.
struct VisualRows {
  /// First row and number of rows of each image, and the lines it has in front of what the encoder drops: how many
  /// and how long, `(images, 4)`.
  let spans: UnsafeMutableBufferPointer<Int32>
  /// For each row of an image, which of its visual tokens it is, or `lineEnd`; as long as a prompt may be. −1 is the
  /// class token where it is none of them.
  let origins: UnsafeMutableBufferPointer<Int32>
  /// The row behind a line of patches: it is no token, and stays where one of its line does.
  static let lineEnd: Int32 = -2
  var imageCount = 0
  /// Tokens of one tile, the first of which shows the image whole.
  let tokenCount: Int
  /// The encoder has handed over fewer rows of some image than it has tokens.
  var isReduced = false

  init(
    spans: UnsafeMutableBufferPointer<Int32>, origins: UnsafeMutableBufferPointer<Int32>,
    tokenCount: Int
  ) {
    self.spans = spans
    self.origins = origins
    self.tokenCount = tokenCount
  }

  /// The next image's rows, whose origins are known, of what would be `image`.
  mutating func append(reduced rows: Range<Int>, _ image: ImageRows) {
    self[imageCount] = rows
    note(image)
    isReduced = true
    imageCount += 1
  }

  private func note(_ image: ImageRows) {
    spans[4 * imageCount + 2] = Int32(image.lineCount)
    spans[4 * imageCount + 3] = Int32(image.lineLength)
  }

  mutating func append(first: Int, _ image: ImageRows) {
    self[imageCount] = first..<(first + image.rowCount)
    note(image)
    var row = first
    for token in 0..<image.tokenCount {
      origins[row] = Int32(token)
      row += 1
      let place = token + 1 - image.wholeCount
      if place > 0 && place % image.lineLength == 0 {
        origins[row] = Self.lineEnd
        row += 1
      }
    }
    // Lines without a patch.
    while row < first + image.rowCount {
      origins[row] = Self.lineEnd
      row += 1
    }
    imageCount += 1
  }

  mutating func removeAll() {
    imageCount = 0
    isReduced = false
  }

  /// Where `count` rows stand behind the first one when each image has the places of all of its tokens. A class token
  /// that is none of them stands with the row in front, or the image's first. Returns how many places there are.
  func place(_ count: Int, into offsets: UnsafeMutablePointer<Int32>) -> Int {
    var shift = 0
    var row = 0
    for image in 0..<imageCount {
      let span = self[image]
      while row < span.lowerBound {
        offsets[row] = Int32(row + shift)
        row += 1
      }
      let image = ImageRows(
        wholeCount: tokenCount, lineCount: Int(spans[4 * image + 2]),
        lineLength: Int(spans[4 * image + 3]))
      var place = 0
      for row in span {
        place = image.place(of: Int(origins[row]), behind: place)
        offsets[row] = Int32(span.lowerBound + shift + place)
      }
      row = span.upperBound
      shift += image.rowCount - span.count
    }
    while row < count {
      offsets[row] = Int32(row + shift)
      row += 1
    }
    return count + shift
  }

  subscript(image: Int) -> Range<Int> {
    get {
      let first = Int(spans[4 * image])
      return first..<(first + Int(spans[4 * image + 1]))
    }
    nonmutating set {
      spans[4 * image] = Int32(newValue.lowerBound)
      spans[4 * image + 1] = Int32(newValue.count)
    }
  }

  /// Patches of each of an image's lines; 1 where it has none.
  func lineLength(_ image: Int) -> Int { max(1, Int(spans[4 * image + 3])) }

  /// Where the last image's rows end.
  var end: Int { imageCount > 0 ? self[imageCount - 1].upperBound : 0 }

  /// Visual tokens, ends of lines not counted.
  var count: Int { (0..<imageCount).reduce(0) { $0 + tokens(self[$1]) } }

  /// The same of one span.
  func tokens(_ span: Range<Int>) -> Int {
    var count = 0
    for row in span where origins[row] != Self.lineEnd { count += 1 }
    return count
  }
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
