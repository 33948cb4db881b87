import PIOBase

/// SmolVLM, SmolVLM2 and Idefics3: SigLIP on tiles, those that an image is cut into and one that shows it whole, whose
/// patches are joined s × s and made rows of the decoder by one matrix. Text stands between the tiles.
public struct SmolVLMConfig: Equatable, Sendable {
  public var tower = SigLIPConfig()
  /// Patches that are joined into one token, along each edge.
  public var shuffle = 1
  /// Of a tile; what an image is resized to before is `longestEdge`.
  public var preprocessing = ImagePreprocessing()
  /// Pixels that an image's longest edge is resized to before it is cut.
  public var longestEdge = 0
  /// False: any image is one tile.
  public var splits = true
  public var markers = TileMarkers()
  /// Most tokens of one image, which is resized to fewer tiles to keep to it; nil: as many as there are. No part of the
  /// file.
  public private(set) var tokenLimit: Int?

  public init() {
    preprocessing.fit = .stretch
    preprocessing.filter = .lanczos
  }

  public var tokensPerSide: Int { tower.patchesPerSide / max(shuffle, 1) }
  /// Visual tokens of one tile.
  public var tileTokenCount: Int { tokensPerSide * tokensPerSide }
  /// What is joined into one token, `(shuffle², dim)`.
  public var joinedDim: Int { shuffle * shuffle * tower.dim }
  /// Tiles along an edge of any image, at most.
  public var mostTiles: Int {
    guard splits else { return 1 }
    let longest = min(longestEdge + longestEdge % 2, 4096)
    return (longest + tower.imageSize - 1) / tower.imageSize
  }

  /// Whether an image of so many tiles, the one that shows it whole among them, keeps to the limit.
  public func allows(tileCount: Int) -> Bool {
    tokenLimit.map { tileCount * tileTokenCount <= $0 } ?? true
  }

  /// Rows and columns of tiles that images may come to: one of the two is the longer edge's, the other one so many or
  /// fewer; of 1 × 1 one tile is all there is. How many the longer edge has hangs on the limit and, where a length is
  /// odd, on the other edge, which is made even; so those that keep to the limit are all there.
  public var shapes: [(rows: Int, columns: Int)] {
    stride(from: mostTiles, through: 1, by: -1).flatMap { along in
      let allowed = (1...along).filter { allows(tileCount: along > 1 ? $0 * along + 1 : 1) }
      return allowed.map { ($0, along) } + allowed.filter { $0 < along }.map { (along, $0) }
    }
  }

  /// The longest edge that any image is resized to within the limit.
  public var longestEdgeInUse: Int {
    let along = shapes.reduce(1) { max($0, $1.rows, $1.columns) }
    return along == mostTiles ? longestEdge : min(longestEdge, along * tower.imageSize)
  }

  /// Most tiles of an image, the one that shows it whole among them.
  public var maxTileCount: Int {
    shapes.reduce(1) { max($0, $1.rows * $1.columns > 1 ? $1.rows * $1.columns + 1 : 1) }
  }

  mutating func limitImages(tokens count: Int) -> Bool {
    guard count >= tileTokenCount else { return false }
    if count < maxTokenCount { tokenLimit = count }
    return true
  }

  public var maxTokenCount: Int { maxTileCount * tileTokenCount }

  /// Most rows that an image gives to the decoder: the tokens of all its tiles, and the text between them.
  public var maxRowCount: Int {
    shapes.reduce(0) { most, shape in
      let tiles = shape.rows * shape.columns
      let tokens = (tiles > 1 ? tiles + 1 : 1) * tileTokenCount
      return max(
        most, tokens + markers.tokenCount(rows: shape.rows, columns: shape.columns))
    }
  }
}

/// The text between an image's tiles, as tokens: a model's tokenizer has made them of `texts`.
public struct TileMarkers: Equatable, Sendable {
  /// Ends a row of tiles, but for the last.
  public var rowEnd: [Int32] = []
  /// Ends the last row of tiles.
  public var lastRowEnd: [Int32] = []
  /// In front of the tile that shows the image whole.
  public var overview: [Int32] = []
  /// Behind that tile.
  public var end: [Int32] = []
  /// In front of the tile in some row and column, `(rows, columns)` by rows, as many of both.
  public var tiles: [[Int32]] = []

  public init() {}

  /// For images of up to `mostTiles` tiles along an edge; `tokens` makes tokens of a text.
  public init<E: Error>(mostTiles: Int, _ tokens: (String) throws(E) -> [Int32]) throws(E) {
    var list: [[Int32]] = []
    for text in Self.texts(mostTiles: mostTiles) { list.append(try tokens(text)) }
    all = list
  }

  /// All of them, in the order of the file.
  var all: [[Int32]] {
    get { [rowEnd, lastRowEnd, overview, end] + tiles }
    set {
      (rowEnd, lastRowEnd, overview, end) = (newValue[0], newValue[1], newValue[2], newValue[3])
      tiles = Array(newValue[4...])
    }
  }

  /// What `all` are as text, for images of up to `mostTiles` tiles along an edge.
  static func texts(mostTiles: Int) -> [String] {
    let fake = "<fake_token_around_image>"
    let tiles = (1...mostTiles).flatMap { row in
      (1...mostTiles).map { "\(fake)<row_\(row)_col_\($0)>" }
    }
    // The line that ends the last row and the one in front of the overview are one piece of text.
    return ["\n", "\n\n", "\(fake)<global-img>", fake] + tiles
  }

  /// The tokens in front of the tile at some row and column, counted from 0.
  public func tile(_ row: Int, _ column: Int) -> [Int32] {
    let perSide = Int(Double(tiles.count).squareRoot())
    return tiles[row * perSide + column]
  }

  /// Tokens of text in an image of so many tiles; of 1 × 1 one tile is all there is.
  public func tokenCount(rows: Int, columns: Int) -> Int {
    guard rows * columns > 1 else { return overview.count + end.count }
    var count = (rows - 1) * rowEnd.count + lastRowEnd.count + overview.count + end.count
    for row in 0..<rows {
      for column in 0..<columns { count += tile(row, column).count }
    }
    return count
  }
}

extension SmolVLMConfig {
  mutating func code(_ coder: inout some MetadataCoder) throws(ModelFileError) {
    try tower.code(&coder)
    try coder.integer(.projectorShuffle, &shuffle)
    try preprocessing.code(&coder)
    try coder.integer(.imageLongestEdge, &longestEdge)
    try coder.flag(.imageSplits, &splits)
    // For each marker the number of its tokens, then these.
    var numbers = markers.all.flatMap { [$0.count] + $0.map(Int.init) }
    try coder.integers(.imageMarkers, &numbers)
    markers = try TileMarkers(numbers)
  }

  func validate(vocabSize: Int) throws(ModelFileError) {
    try tower.validate()
    try check("projector.shuffle", shuffle, 1...16)
    try check("vision.patches_per_side % shuffle", tower.patchesPerSide % shuffle, 0...0)
    try check("projector.shuffle² * vision.dim", joinedDim, 1...maxDim)
    try preprocessing.validate(imageSize: tower.imageSize)
    try check("image.fit", Int(preprocessing.fit.rawValue), 2...2)
    try check("image.longest_edge", longestEdge, 1...8192)
    try check("image.longest_edge / image_size, rounded up", mostTiles, 1...16)
    try check("image tokens", maxTokenCount, 1...65_536)
    let needed = 4 + mostTiles * mostTiles
    try check("image.markers (count)", markers.all.count, needed...needed)
    for marker in markers.all {
      try check("image.markers (tokens)", marker.count, 1...64)
      for token in marker { try check("image.markers", token, 0...Int32(vocabSize - 1)) }
    }
  }

  func addSpecs(to specs: inout SpecList, outputDim: Int) {
    tower.addSpecs(to: &specs)
    specs.linear("projector.linear", outputDim, joinedDim, bias: false)
  }
}

extension TileMarkers {
  fileprivate init(_ numbers: [Int]) throws(ModelFileError) {
    var list: [[Int32]] = []
    var rest = numbers[...]
    while let count = rest.popFirst() {
      guard count >= 0, count <= rest.count else {
        throw .metadata(key: "imageMarkers", problem: "\(rest.count) numbers, needed \(count)")
      }
      var tokens: [Int32] = []
      for number in rest.prefix(count) {
        try check("image.markers", number, 0...Int(Int32.max))
        tokens.append(Int32(number))
      }
      list.append(tokens)
      rest = rest.dropFirst(count)
    }
    guard list.count > 4 else {
      throw .metadata(key: "imageMarkers", problem: "\(list.count) markers, needed more than 4")
    }
    self.init()
    all = list
  }
}
