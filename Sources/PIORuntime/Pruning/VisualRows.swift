/// The visual rows of the prompt in work: one span an image, in the arena, and what each image would be whole.
struct VisualRows {
  /// First row and number of rows of each image, `(images, 2)`.
  private let spans: UnsafeMutableBufferPointer<Int32>
  /// For each row of an image, which of its visual tokens it is, or one of the marks below; as long as a prompt may be.
  let origins: UnsafeMutableBufferPointer<Int32>
  /// The class token, where it is none of the image's tokens.
  static let classToken: Int32 = -1
  /// The row behind a line of tokens.
  static let lineEnd: Int32 = -2
  /// A token of text between tiles.
  static let text: Int32 = -3

  /// Of the prompt's images in their order: what they would be if the encoder dropped nothing.
  let layouts: [VisualLayout]
  /// Of these, so many have their rows.
  private(set) var imageCount = 0
  /// The encoder has handed over fewer rows of some image than it has tokens.
  private(set) var isReduced = false

  init(
    _ layouts: [VisualLayout], spans: UnsafeMutableBufferPointer<Int32>,
    origins: UnsafeMutableBufferPointer<Int32>
  ) {
    precondition(2 * layouts.count <= spans.count, "VisualRows: images")
    self.layouts = layouts
    self.spans = spans
    self.origins = origins
  }

  static func isToken(_ origin: Int32) -> Bool { origin >= classToken }

  /// The next image's rows, all that its layout has, from `first` on.
  mutating func append(first: Int) {
    let layout = layouts[imageCount]
    self[imageCount] = first..<(first + layout.rowCount)
    var row = first
    layout.forEachRow { kind in
      switch kind {
      case .token(let token): origins[row] = Int32(token)
      case .lineEnd: origins[row] = Self.lineEnd
      case .text: origins[row] = Self.text
      }
      row += 1
    }
    imageCount += 1
  }

  /// The next image's rows, of which the encoder has dropped some: their origins are known.
  mutating func append(reduced rows: Range<Int>) {
    self[imageCount] = rows
    isReduced = true
    imageCount += 1
  }

  /// Where `count` rows stand behind the first one when each image has the places of all of its rows. A class token
  /// that is none of its tokens stands with the row in front, or the image's first. Returns how many positions these
  /// are.
  func positions(_ count: Int, into places: RowPlaces) -> Int {
    var next = 0
    var row = 0
    for image in 0..<imageCount {
      let span = self[image]
      while row < span.lowerBound {
        places.set(row, Int32(next))
        (row, next) = (row + 1, next + 1)
      }
      switch layouts[image].places {
      case .byRow: placeByRow(span, layouts[image], first: next, places)
      case .byGrid: placeByGrid(span, layouts[image], first: next, places)
      }
      row = span.upperBound
      next += layouts[image].positionCount
    }
    while row < count {
      places.set(row, Int32(next))
      (row, next) = (row + 1, next + 1)
    }
    return next
  }

  private func placeByRow(
    _ span: Range<Int>, _ layout: VisualLayout, first: Int, _ places: RowPlaces
  ) {
    var (place, texts) = (-1, 0)
    for row in span {
      if origins[row] == Self.text {
        place = layout.row(ofText: texts)
        texts += 1
      } else {
        place = position(of: origins[row], in: layout, behind: place)
      }
      places.set(row, Int32(first + place))
    }
  }

  private func placeByGrid(
    _ span: Range<Int>, _ layout: VisualLayout, first: Int, _ places: RowPlaces
  ) {
    for row in span {
      guard let cell = layout.cell(of: Int(origins[row])) else { continue }
      places.set(row, Int32(first), Int32(first + cell.line), Int32(first + cell.column))
    }
  }

  private func position(of origin: Int32, in layout: VisualLayout, behind previous: Int) -> Int {
    switch origin {
    case 0...: layout.row(of: Int(origin))
    case Self.lineEnd: layout.lineEnd(behind: previous) ?? previous
    default: max(0, previous)
    }
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

  /// Where the last image's rows end.
  var end: Int { imageCount > 0 ? self[imageCount - 1].upperBound : 0 }

  /// Visual tokens of all images.
  var tokenCount: Int { (0..<imageCount).reduce(0) { $0 + tokenCount(self[$1]) } }

  /// Visual tokens of one span.
  func tokenCount(_ span: Range<Int>) -> Int {
    var count = 0
    for row in span where Self.isToken(origins[row]) { count += 1 }
    return count
  }
}
