import PIOFormat
import PIOVision

/// The decoder's rows of one image: those of the tile that shows it whole, then the other tiles' patches by lines
/// across all of them, each line with a row that ends it (LLaVA-NeXT). An image of one tile has no lines.
struct ImageRows: Equatable, Sendable {
  /// Rows of the tile that shows the image whole.
  let wholeCount: Int
  var lineCount = 0
  /// Patches of a line.
  var lineLength = 0

  /// Visual tokens: what a budget counts, so without the ends of lines.
  var tokenCount: Int { wholeCount + lineCount * lineLength }
  var rowCount: Int { tokenCount + lineCount }

  init(wholeCount: Int, lineCount: Int = 0, lineLength: Int = 0) {
    self.wholeCount = wholeCount
    self.lineCount = lineCount
    self.lineLength = lineLength
  }

  init(_ vision: VisionConfig, _ grid: PatchLines) {
    self.init(
      wholeCount: vision.visualTokenCount, lineCount: grid.rows.count,
      lineLength: grid.columns.count)
  }

  /// The row of a token, of the end of the line that row `previous` is in, or, of a class token, `previous`.
  func place(of origin: Int, behind previous: Int) -> Int {
    if origin >= wholeCount { return origin + (origin - wholeCount) / max(1, lineLength) }
    if origin >= 0 { return origin }
    guard origin == Int(VisualRows.lineEnd), previous >= wholeCount else { return previous }
    let line = (previous - wholeCount) / (lineLength + 1)
    return wholeCount + (line + 1) * (lineLength + 1) - 1
  }

  /// Everything that an image can come to, whatever its size; of those with as many tokens, the most lines.
  static func all(_ vision: VisionConfig) -> [ImageRows] {
    let whole = vision.visualTokenCount
    var found: [Int: ImageRows] = [:]
    if !vision.isTiled { found[whole] = ImageRows(wholeCount: whole) }
    for resolution in vision.resolutions {
      let (rows, columns) = (
        resolution.height / vision.patchSize, resolution.width / vision.patchSize
      )
      // As much is left out at either end: the rest is even or odd as the whole.
      let shapes =
        stride(from: rows % 2, through: rows, by: 2).map { ($0, columns) }
        + stride(from: columns % 2, through: columns, by: 2).map { (rows, $0) }
      for (lines, length) in shapes {
        let one = ImageRows(wholeCount: whole, lineCount: lines, lineLength: length)
        if found[one.tokenCount, default: one].lineCount <= one.lineCount {
          found[one.tokenCount] = one
        }
      }
    }
    return found.values.sorted { $0.tokenCount < $1.tokenCount }
  }
}

extension VisionConfig {
  var tileResolutions: [PixelSize] {
    resolutions.map { PixelSize(height: $0.height, width: $0.width) }
  }

  /// Most visual tokens that an image can have.
  public var maxVisualTokenCount: Int {
    ImageRows.all(self).last?.tokenCount ?? visualTokenCount
  }
}
