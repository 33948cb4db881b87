import CPIOKernels
import PIOFormat
import PIOThreads

/// What the pruner needs of the arena.
struct PruningRegions: Equatable, Sendable {
  let selection: SelectionRegions
  /// The last row's queries in the block that has just run, `(headCount · headDim)`.
  let lastQuery: Region<Float>
  let records: RecordRegions
  /// Shares its bytes with the decoder's scratch; nil where no method asks for it.
  let saliency: SaliencyRegions?
}

/// Where a stage stands in the prompt's way.
struct StageInput {
  let afterLayer: Int
  /// The rows in front of the stage, and the block that methods which look through one use.
  let probe: Probe
  /// The cache of the block that has just run, its last rows being these; nil before the first block.
  let previous: LayerCache?
}

/// Chooses the rows that survive a stage. Compacting them is the decoder's.
struct Pruner {
  var pruning: Pruning
  /// Indices into the rows in front of the stage, ascending; as long as a prompt may be.
  let kept: UnsafeMutableBufferPointer<Int32>
  let selection: Selection
  let saliency: Saliency?
  let records: PruneRecords
  let lastQuery: Rows

  init(
    config: TextConfig, weights: TextWeights, stream: WeightStream, operations: Operations,
    plan: ArenaLayout, arena: borrowing Arena
  ) {
    let regions = plan.pruning
    pruning = plan.limits.pruning
    kept = arena.buffer(plan.prompt.kept)
    var selection = Selection(operations: operations, regions: regions.selection, arena: arena)
    selection.origins = arena.buffer(plan.prompt.visualOrigins)
    self.selection = selection
    records = PruneRecords(regions.records, arena: arena)
    lastQuery = Rows(
      base: arena.pointer(regions.lastQuery), count: 1, dim: config.headCount * config.headDim)
    if let regions = regions.saliency {
      saliency = Saliency(
        config: config, weights: weights, stream: stream, operations: operations, plan: plan,
        regions: regions, arena: arena)
    } else {
      saliency = nil
    }
  }

  /// Whether a stage runs when the block in front of it has its weights at hand, or the block behind it.
  func runsBehindBlock(afterLayer: Int) -> Bool {
    afterLayer > 0 && usesSaliency && pruning.proxyBlock == .current
  }

  /// Whether the stage needs the angles of its rows in the probed block.
  var readsRotations: Bool { usesSaliency || pruning.method == .fastv }

  private var usesSaliency: Bool { pruning.method.usesSaliency }

  /// Whether the block in front of a stage shall leave its last row's queries.
  var readsLastQuery: Bool { pruning.method == .fastv }

  /// The rows whose predictions count, of `count` rows behind whose last image there is text.
  func proxies(_ visual: VisualRows, of count: Int) -> Range<Int> {
    pruning.proxyRows.range(textRows: count - visual.end, of: count)
  }

  /// Fills `kept` with the surviving ones of the rows: all text rows, and `keep` visual tokens shared among the images
  /// in proportion to their tokens, with the ends of lines that keep one.
  ///
  /// Moves the images' spans to where their rows will be. Returns the count. Throws where the head's weights cannot be
  /// read.
  func choose(_ keep: Int, _ visual: VisualRows, _ input: StageInput) throws(RuntimeError) -> Int {
    let rowCount = input.probe.hidden.count
    let total = visual.tokenCount
    guard keep < total else {
      for row in 0..<rowCount { kept[row] = Int32(row) }
      return rowCount
    }
    let start = ProcessStatus.monotonicMilliseconds
    var macs = try rank(visual, input)
    var count = 0
    var row = 0
    var seen = 0
    var given = 0
    for image in 0..<visual.imageCount {
      let span = visual[image]
      while row < span.lowerBound { append(row, &row, &count) }
      // What the images so far are owed, less what they got: shares differ by at most one row.
      let tokenCount = visual.tokenCount(span)
      seen += tokenCount
      let owed = (keep * seen + total / 2) / total
      let share = Share(
        count: owed - given, span: span, tokenCount: tokenCount, image: image,
        layout: visual.layouts[image], text: visual.end..<rowCount, origins: visual.origins)
      visual[image] = keepShare(share, visual, &count, &macs, input)
      given = owed
      row = span.upperBound
    }
    while row < rowCount { append(row, &row, &count) }
    for row in 0..<count { visual.origins[row] = visual.origins[Int(kept[row])] }
    records.finish(
      imageCount: visual.imageCount,
      milliseconds: ProcessStatus.monotonicMilliseconds - start, macs: macs)
    return count
  }

  /// One image's part of a stage. Returns where its rows will be.
  private func keepShare(
    _ share: Share, _ visual: VisualRows, _ count: inout Int, _ macs: inout Int,
    _ input: StageInput
  ) -> Range<Int> {
    let (first, span) = (count, share.span)
    records.begin(image: share.image, afterLayer: input.afterLayer, span, visual)
    if ranks(input) { records.note(scores: selection.scores, span, visual) }
    macs += select(share, into: &count, input)
    records.note(kept: kept[first..<count], visual)
    return first..<count
  }

  private func append(_ index: Int, _ row: inout Int, _ count: inout Int) {
    kept[count] = Int32(index)
    count += 1
    row += 1
  }

  /// Whether the method has a number for each row.
  private func ranks(_ input: StageInput) -> Bool {
    let method = method(input)
    return method.usesSaliency || method == .fastv
  }

  /// What chooses at a stage.
  private func method(_ input: StageInput) -> PruneMethod {
    let isEven = input.afterLayer == 0 && pruning.entry == .even
    return isEven && pruning.method == .pio ? .uniform : pruning.method
  }

  /// Scores of all images' rows. Returns the multiply-adds it took.
  private func rank(_ visual: VisualRows, _ input: StageInput) throws(RuntimeError) -> Int {
    switch method(input) {
    case .pio, .visionzipPIO, .windowzipPIO:
      return try saliency!.compute(input.probe, visual, into: selection.scores.baseAddress!)
    case .fastv:
      return saliency!.rankByAttention(
        input, lastQuery: lastQuery, visual, into: selection.scores)
    case .none, .uniform, .random, .dart, .divprune, .visionzip, .windowzip: return 0
    }
  }

  /// What one image may keep.
  private struct Share {
    let count: Int
    let span: Range<Int>
    /// Of the span.
    let tokenCount: Int
    let image: Int
    let layout: VisualLayout
    /// The rows behind the last image.
    let text: Range<Int>
    let origins: UnsafeMutableBufferPointer<Int32>
  }

  /// As many ascending indices of tokens of the span behind `count`, and the ends of their lines among them. Returns
  /// the multiply-adds it took.
  private func select(_ share: Share, into count: inout Int, _ input: StageInput) -> Int {
    let out = kept.baseAddress! + count
    let span = share.span
    let hidden = input.probe.hidden
    var macs = 0
    switch method(input) {
    case .none, .visionzip, .windowzip: preconditionFailure("a stage without a method")
    case .uniform: spread(share)
    case .random:
      let seed = UInt64(input.afterLayer) << 32 | UInt64(share.image)
      draw(share, seed: seed)
    case .pio, .visionzipPIO, .windowzipPIO:
      selection.begin(span)
      let isEntry = input.afterLayer == 0 && pruning.entry == .cells
      let covering = isEntry ? share.count : Int(pruning.coverage * Float(share.count))
      keepBestOfCells(covering, share)
      macs = selection.keepDistinct(
        share.count, of: span, in: hidden, threshold: pruning.nmsThreshold)
    case .fastv: selection.keepHighest(share.count, of: span)
    case .dart:
      macs = saliency!.keepUnlikePivots(
        share.count, of: span, text: share.text, input, selection)
    case .divprune: macs = selection.keepDiverse(share.count, of: span, in: hidden)
    }
    selection.keepRowsBetween(span, share.layout)
    count += selection.write(span, to: out)
    return macs
  }

  /// Of the tokens in the grid that shows the image whole, those of the highest score in cells of about as many.
  private func keepBestOfCells(_ count: Int, _ share: Share) {
    let (grid, first) = share.layout.overviewGrid
    selection.keepBestOfCells(
      count, of: share.span, lines: grid.lines, lineLength: grid.lineLength
    ) { row in
      let token = Int(share.origins[row]) - first
      return token < grid.tokenCount ? token : -1
    }
  }

  /// Evenly over the image both ways: of the tokens in column x of line y those with the least
  /// frac(d · (x + 1/2) + y / φ), where d is the part to keep and φ = 1.618…
  ///
  /// A line keeps every 1/d-th token, and the golden ratio shifts it against the lines around it, so that neighbours are
  /// about as far apart across the lines as along them, whatever d is. Counted on through all lines the steps would beat
  /// with the lines' length: two of three tokens of lines of 24 are whole columns.
  private func spread(_ share: Share) {
    let density = (share.count << 32) / max(1, share.tokenCount)
    for row in share.span where selection.isToken(row) {
      // A token without a place stands in front of the first line.
      let cell = share.layout.cell(of: Int(share.origins[row]))
      let (y, x) = (cell?.line ?? 0, cell?.column ?? -1)
      // In units of 2⁻³², the carry dropped.
      let place = UInt32(truncatingIfNeeded: density * x + density / 2 + 2_654_435_769 * y)
      selection.scores[row] = -Float(place >> 8)
    }
    selection.keepHighest(share.count, of: share.span)
  }

  /// Selection sampling (Knuth, TAOCP 2, §3.4.2, algorithm S): one pass, ascending, every subset as likely.
  private func draw(_ share: Share, seed: UInt64) {
    var generator = SplitMix64(state: pruning.seed ^ (seed &* 0x9E37_79B9_7F4A_7C15))
    selection.begin(share.span)
    var (chosen, passed) = (0, 0)
    for row in share.span where selection.isToken(row) && chosen < share.count {
      let left = UInt64(share.tokenCount - passed)
      if generator.next() % left < UInt64(share.count - chosen) {
        selection.keep(row)
        chosen += 1
      }
      passed += 1
    }
  }
}
