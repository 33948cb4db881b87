/// A drawing of what the stages of one prompt did to its images, for a person to look at.
///
/// A row for each image: the image as the encoder sees it, then for each stage what it ranked the tokens by (a
/// heat map, by rank among the candidates, over a darkened image; tokens that were gone are black) and what was left
/// (the kept patches as they are, the others dark; merged ones that stand for others have a blue frame, the others an
/// orange one). Of an image in several tiles, the one that shows it whole. Above each panel digits: the image, `L` and the layer in front of the stage (0 in the encoder), and
/// `before>after`. The colours are those of viridis and of Okabe and Ito, which colour-blind people tell apart.
public struct Explanation {
  public let width: Int
  public let height: Int
  /// RGB, rows from the top.
  public private(set) var pixels: [UInt8]

  private static let gap = 12
  private static let digit = (width: 5, height: 7, scale: 3)
  private static let header = 36
  private static let orange: (Int, Int, Int) = (230, 159, 0)
  private static let blue: (Int, Int, Int) = (86, 180, 233)
  private static let ink: (Int, Int, Int) = (20, 20, 20)

  /// An image as the encoder sees it whole, in the shape of its tokens.
  struct Panel {
    /// `side` pixels each way, stretched where the image is not square.
    let rgb: [UInt8]
    let side: Int
    let layout: VisualLayout

    var lines: Int { layout.overviewGrid.grid.lines }
    var columns: Int { layout.overviewGrid.grid.lineLength }
    var tokenCount: Int { lines * columns }
    /// The token in the upper left corner.
    var firstToken: Int { layout.overviewGrid.firstToken }

    /// Pixels of the drawing, before it is enlarged: the longer edge has `side`.
    var width: Int { max(1, columns >= lines ? side : side * columns / lines) }
    var height: Int { max(1, lines >= columns ? side : side * lines / columns) }

    func color(_ x: Int, _ y: Int) -> (Int, Int, Int) {
      let at = (y * side / height * side + x * side / width) * 3
      return (Int(rgb[at]), Int(rgb[at + 1]), Int(rgb[at + 2]))
    }

    func patch(_ x: Int, _ y: Int) -> Int { y * lines / height * columns + x * columns / width }
  }

  init(_ images: [Panel], _ stages: [PruningStage]) {
    let side = images.first.map { $0.side * Self.zoom($0.side) } ?? 0
    let most =
      images.indices.map { index in stages.filter { $0.image == index }.count }.max() ?? 0
    let panels = 1 + 2 * most
    width = Self.gap + panels * (side + Self.gap)
    height = Self.gap + images.count * (Self.header + side + Self.gap)
    pixels = [UInt8](repeating: 255, count: width * height * 3)
    for (index, image) in images.enumerated() {
      let top = Self.gap + index * (Self.header + side + Self.gap)
      var left = Self.gap
      write("\(index)", left, top)
      draw(image, left, top + Self.header) { _, color in color }
      for stage in stages where stage.image == index {
        left += side + Self.gap
        let label = "\(index) L\(stage.afterLayer ?? 0) "
        write(label + (stage.scores.isEmpty ? "-" : "0-100"), left, top)
        drawHeat(image, stage, left, top + Self.header)
        left += side + Self.gap
        write("\(stage.before)>\(stage.after)", left, top)
        drawKept(image, stage, left, top + Self.header)
      }
    }
  }

  /// Small images are drawn larger.
  private static func zoom(_ side: Int) -> Int { max(1, (336 + side - 1) / side) }

  /// Calls `color` with the patch and the image's colour there, for every pixel.
  private mutating func draw(
    _ image: Panel, _ left: Int, _ top: Int,
    _ color: (_ patch: Int, _ color: (Int, Int, Int)) -> (Int, Int, Int)
  ) {
    let zoom = Self.zoom(image.side)
    for y in 0..<(image.height * zoom) {
      for x in 0..<(image.width * zoom) {
        let (column, row) = (x / zoom, y / zoom)
        set(left + x, top + y, color(image.patch(column, row), image.color(column, row)))
      }
    }
  }

  private mutating func drawHeat(
    _ image: Panel, _ stage: PruningStage, _ left: Int, _ top: Int
  ) {
    var heat = [Double?](repeating: nil, count: image.tokenCount)
    let first = image.firstToken
    if !stage.scores.isEmpty {
      let order = stage.scores.indices.sorted { stage.scores[$0] < stage.scores[$1] }
      let last = Double(max(1, order.count - 1))
      for (rank, index) in order.enumerated() {
        let patch = stage.candidates[index] - first
        if heat.indices.contains(patch) { heat[patch] = Double(rank) / last }
      }
    }
    draw(image, left, top) { patch, color in
      let grey = (color.0 * 30 + color.1 * 59 + color.2 * 11) / 100
      guard let heat = heat[patch] else { return (grey / 5, grey / 5, grey / 5) }
      let warm = Self.viridis(heat)
      return (
        (warm.0 * 3 + grey) / 4, (warm.1 * 3 + grey) / 4, (warm.2 * 3 + grey) / 4
      )
    }
  }

  private mutating func drawKept(
    _ image: Panel, _ stage: PruningStage, _ left: Int, _ top: Int
  ) {
    let first = image.firstToken
    let kept = Set(stage.kept.map { $0 - first })
    draw(image, left, top) { patch, color in
      if kept.contains(patch) { return color }
      let grey = (color.0 * 30 + color.1 * 59 + color.2 * 11) / 100
      return (grey / 4, grey / 4, grey / 4)
    }
    let targets = Set(stage.merged.map { $0.target - first })
    let zoom = Self.zoom(image.side)
    let size = max(1, image.width / image.columns) * zoom
    for patch in kept where patch >= 0 && patch < image.tokenCount {
      let (line, column) = patch.quotientAndRemainder(dividingBy: image.columns)
      let x = left + column * image.width / image.columns * zoom
      let y = top + line * image.height / image.lines * zoom
      frame(x, y, size, targets.contains(patch) ? Self.blue : Self.orange)
    }
  }

  private mutating func frame(_ left: Int, _ top: Int, _ size: Int, _ color: (Int, Int, Int)) {
    for i in 0..<size {
      set(left + i, top, color)
      set(left + i, top + size - 1, color)
      set(left, top + i, color)
      set(left + size - 1, top + i, color)
    }
  }

  private mutating func set(_ x: Int, _ y: Int, _ color: (Int, Int, Int)) {
    guard x >= 0, x < width, y >= 0, y < height else { return }
    let at = (y * width + x) * 3
    pixels[at] = UInt8(clamping: color.0)
    pixels[at + 1] = UInt8(clamping: color.1)
    pixels[at + 2] = UInt8(clamping: color.2)
  }

  /// Anchors of matplotlib's viridis at eighths, straight lines between them.
  private static func viridis(_ x: Double) -> (Int, Int, Int) {
    let anchors: [(Double, Double, Double)] = [
      (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129),
      (92, 200, 99), (170, 220, 50), (253, 231, 37),
    ]
    let at = min(max(x, 0), 1) * 8
    let low = min(7, Int(at))
    let part = at - Double(low)
    let (a, b) = (anchors[low], anchors[low + 1])
    return (
      Int(a.0 + (b.0 - a.0) * part), Int(a.1 + (b.1 - a.1) * part), Int(a.2 + (b.2 - a.2) * part)
    )
  }

  // MARK: Digits

  /// Rows of five pixels from the top, the leftmost in the highest of five bits.
  private static let glyphs: [Character: [UInt8]] = [
    "0": [14, 17, 19, 21, 25, 17, 14], "1": [4, 12, 4, 4, 4, 4, 14],
    "2": [14, 17, 1, 2, 4, 8, 31], "3": [31, 2, 4, 2, 1, 17, 14],
    "4": [2, 6, 10, 18, 31, 2, 2], "5": [31, 16, 30, 1, 1, 17, 14],
    "6": [6, 8, 16, 30, 17, 17, 14], "7": [31, 1, 2, 4, 8, 8, 8],
    "8": [14, 17, 17, 14, 17, 17, 14], "9": [14, 17, 17, 15, 1, 2, 12],
    "L": [16, 16, 16, 16, 16, 16, 31], ">": [8, 4, 2, 1, 2, 4, 8], "-": [0, 0, 0, 31, 0, 0, 0],
  ]

  private mutating func write(_ text: String, _ left: Int, _ top: Int) {
    var x = left
    for character in text {
      for (row, bits) in (Self.glyphs[character] ?? []).enumerated() {
        for column in 0..<Self.digit.width where bits >> (4 - column) & 1 == 1 {
          for dy in 0..<Self.digit.scale {
            for dx in 0..<Self.digit.scale {
              set(
                x + column * Self.digit.scale + dx, top + 4 + row * Self.digit.scale + dy, Self.ink)
            }
          }
        }
      }
      x += (Self.digit.width + 1) * Self.digit.scale
    }
  }
}
