import PIOBase

/// Turns the stored rows of an image, given one at a time, into the encoder's patches.
///
/// Two passes, one along the upright image's x and one along its y; the first result is rounded to
/// bytes, so their order shows. It is Pillow 13's: y first if the height shrinks by more than twice
/// the pixels that the width shrinks by, else x. A stored row is an upright row, or an upright column
/// where the EXIF orientation swaps the edges. So whatever the image, one pass goes along each stored
/// row and one across the rows as they arrive, and the first pass is either of them. A mirrored edge
/// only mirrors the weights.
struct PatchResizer {
  private let preparation: ImagePreparation
  /// Along the stored rows, and across them.
  private let along: ResizeAxis
  private let transposed: Bool
  private let acrossFirst: Bool
  private let columns: Range<Int>
  private let rows: Range<Int>
  private var across: RowStream
  private let finished: UnsafeMutablePointer<UInt8>
  private let resampled: UnsafeMutablePointer<UInt8>
  private let target: Target

  /// Where the pixels go.
  enum Target {
    /// Normalised, `(patch, channel, y, x)`.
    case patches(UnsafeMutableBufferPointer<Float>)
    /// As they are, `(tile, y, x, 3)`, so many tiles side by side.
    case tiles(UnsafeMutablePointer<UInt8>, columns: Int)
    /// As they are, `(y, x, 3)`, rows of `width` pixels.
    case raster(UnsafeMutablePointer<UInt8>, width: Int)
  }

  /// `(channel, 256)`: byte → normalised value; for patches alone.
  private let levels: UnsafeMutablePointer<Float>

  static func byteCount(_ preparation: ImagePreparation, maxEdge: Int) -> Int {
    let side = preparation.side
    let axis = ResizeAxis.byteCount(
      kept: side, maxEdge: maxEdge, resized: preparation.steps.resizeTo,
      filter: preparation.steps.filter)
    // The rows across which is resampled: resized ones, or stored ones.
    let width = 3 * max(side, maxEdge)
    return 2 * axis + byteCount(width: width, kept: side, preparation.steps.filter)
  }

  /// The same for the resizing into a grid of tiles of `side`, `longest` pixels an edge at most.
  static func gridByteCount(
    longest: Int, _ preparation: ImagePreparation, maxEdge: Int
  ) -> Int {
    let filter = preparation.steps.filter
    let axis = ResizeAxis.byteCount(
      longest: longest, shrunkToAtLeast: preparation.side, maxEdge: maxEdge, filter: filter)
    return 2 * axis + byteCount(width: 3 * max(longest, maxEdge), kept: longest, filter)
  }

  /// The same for edges of at most `maxEdge` pixels that are resized to at most `longest`, whatever the shape becomes.
  static func byteCount(
    longest: Int, maxEdge: Int, filter: ImagePreprocessing.Filter
  ) -> Int {
    let axis = ResizeAxis.byteCount(longest: longest, maxEdge: maxEdge, filter: filter)
    return 2 * axis + byteCount(width: 3 * max(longest, maxEdge), kept: longest, filter)
  }

  /// What stands beside the weights: rows of `width` bytes, of `kept` pixels once they are resized.
  private static func byteCount(
    width: Int, kept: Int, _ filter: ImagePreprocessing.Filter
  ) -> Int {
    RowStream.byteCount(width: width, filter: filter) + 2 * Scratch.rounded(width)
      + Scratch.rounded(3 * kept) + Scratch.rounded(3 * 256 * 4) + Scratch.alignment
  }

  static func edges(
    _ info: ImageInfo, _ preparation: ImagePreparation
  ) -> (x: AxisGeometry, y: AxisGeometry) {
    AxisGeometry.edges(width: info.width, height: info.height, preparation)
  }

  /// `orientation`: EXIF's, 1 to 8, of the rows that will come. `edges`: where those of the upright image go.
  init(
    orientation: Int, _ edges: (x: AxisGeometry, y: AxisGeometry),
    _ preparation: ImagePreparation, scratch bytes: UnsafeMutableRawBufferPointer,
    into target: Target
  ) {
    var scratch = Scratch(bytes)
    transposed = orientation >= 5
    along = ResizeAxis(
      transposed ? edges.y : edges.x, filter: preparation.steps.filter,
      mirrored: [2, 3, 7, 8].contains(orientation), &scratch)
    let acrossAxis = ResizeAxis(
      transposed ? edges.x : edges.y, filter: preparation.steps.filter,
      mirrored: [3, 4, 6, 7].contains(orientation), &scratch)
    acrossFirst = transposed != edges.y.shrinksFarMore(than: edges.x)
    columns = along.sourceRange
    along.rebase(to: columns.lowerBound)
    rows = acrossAxis.sourceRange

    let width = 3 * (acrossFirst ? columns.count : along.count)
    let padding = scratch.take(UInt8.self, width)
    finished = scratch.take(UInt8.self, width)
    resampled = scratch.take(UInt8.self, 3 * along.count)
    levels = scratch.take(Float.self, 3 * 256)
    across = RowStream(acrossAxis, width: width, padding: padding, &scratch)
    self.preparation = preparation
    self.target = target
    fillPadding(padding)
    guard case .patches(let patches) = target else { return }
    preparation.fill(levels: levels)
    fillBackground(patches)
  }

  /// Row `index` of the file: RGB, every row once, ascending.
  mutating func add(_ row: UnsafePointer<UInt8>, index: Int) {
    guard rows.contains(index) else { return }
    let pixels = row + 3 * columns.lowerBound
    if acrossFirst {
      across.add(pixels, index: index)
    } else {
      resampleAlong(along, pixels, resampled, padColor: preparation.steps.padColor)
      across.add(resampled, index: index)
    }
    storeFinished()
  }

  mutating func finish() {
    across.finish()
    storeFinished()
  }

  private mutating func storeFinished() {
    while let i = across.next(into: finished) {
      let position = across.axis.position(i)
      if acrossFirst {
        resampleAlong(along, finished, resampled, padColor: preparation.steps.padColor)
      }
      let line = acrossFirst ? resampled : finished
      for k in 0..<along.count {
        let other = along.position(k)
        store(line + 3 * k, x: transposed ? position : other, y: transposed ? other : position)
      }
    }
  }

  /// Patches in reading order, in each `(channel, y, x)`.
  @inline(__always)
  private func store(_ pixel: UnsafePointer<UInt8>, x: Int, y: Int) {
    switch target {
    case .patches(let patches): store(pixel, x: x, y: y, patches)
    case .tiles(let pixels, let columns):
      let side = preparation.side
      let tile = y / side * columns + x / side
      let out = pixels + 3 * ((tile * side + y % side) * side + x % side)
      (out[0], out[1], out[2]) = (pixel[0], pixel[1], pixel[2])
    case .raster(let pixels, let width):
      let out = pixels + 3 * (y * width + x)
      (out[0], out[1], out[2]) = (pixel[0], pixel[1], pixel[2])
    }
  }

  @inline(__always)
  private func store(
    _ pixel: UnsafePointer<UInt8>, x: Int, y: Int, _ patches: UnsafeMutableBufferPointer<Float>
  ) {
    let (size, perSide) = (preparation.patchSize, preparation.patchesPerSide)
    let (column, row) = (x / size, y / size)
    guard column < perSide, row < perSide else { return }
    let area = size * size
    let at = (row * perSide + column) * 3 * area + (y - row * size) * size + x - column * size
    patches[at] = levels[Int(pixel[0])]
    patches[at + area] = levels[256 + Int(pixel[1])]
    patches[at + 2 * area] = levels[512 + Int(pixel[2])]
  }

  /// A row of padding as the pass across sees it: already resampled along, unless that comes second.
  private func fillPadding(_ padding: UnsafeMutablePointer<UInt8>) {
    let (red, green, blue) = preparation.steps.padColor
    for k in 0..<across.width / 3 {
      var sum: Int32 = 1 << ResizeAxis.weightBits
      if !acrossFirst {
        sum = along.padWeights[k]
        for t in 0..<Int(along.counts[k]) { sum &+= along.weights[k * along.taps + t] }
      }
      padding[3 * k] = narrowed(ResizeAxis.half &+ sum &* Int32(red))
      padding[3 * k + 1] = narrowed(ResizeAxis.half &+ sum &* Int32(green))
      padding[3 * k + 2] = narrowed(ResizeAxis.half &+ sum &* Int32(blue))
    }
  }

  /// Black wherever the crop is larger than the resized image.
  private func fillBackground(_ patches: UnsafeMutableBufferPointer<Float>) {
    let side = preparation.side
    guard along.count < side || across.axis.count < side else { return }
    let area = preparation.patchSize * preparation.patchSize
    for plane in 0..<3 * preparation.patchCount {
      let piece = patches.baseAddress! + plane * area
      piece.update(repeating: levels[plane % 3 * 256], count: area)
    }
  }
}

extension ImagePreparation {
  /// `(value · rescaleFactor − mean) / std`, `(channel, 256)`. The first product is rounded once, from f64, as in
  /// numpy; 1/255 kept as f32 stands for the f64 one that checkpoints hold.
  func fill(levels: UnsafeMutablePointer<Float>) {
    let (mean, std) = (steps.mean, steps.std)
    let factor = steps.rescaleFactor == 1 / 255 ? 1.0 / 255 : Double(steps.rescaleFactor)
    for value in 0..<256 {
      let x = Float(Double(value) * factor)
      levels[value] = (x - mean.0) / std.0
      levels[256 + value] = (x - mean.1) / std.1
      levels[512 + value] = (x - mean.2) / std.2
    }
  }
}
