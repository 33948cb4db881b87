import PIOFormat
import PIOVision

/// Pictures on their way into the decoder's rows.
extension Engine {
  /// What the decoder gets for one picture: `(its rows, dim)`, or where the session reduces pictures in the encoder,
  /// so many of its tokens.
  package mutating func imageFeatures(
    _ path: String, handingOver count: Int? = nil
  ) throws(RuntimeError) -> [Float] {
    var result = Generation()
    visual.removeAll()
    decoder.pruner.records.removeAll()
    entering = (count ?? 0, count == nil ? 0 : try pictureRows(path).tokenCount, 0)
    stream.beginEncoding()
    defer { endEncoding() }
    let count = try place(imageAt: path, at: 0, &result)
    return Array(UnsafeBufferPointer(start: decoder.hidden.base, count: count * decoder.hidden.dim))
  }

  /// Encodes one picture as the session prunes, for `Request.encodedImages`. Allocates.
  package mutating func encodeImage(_ path: String) throws(RuntimeError) -> EncodedImage {
    var result = Generation()
    visual.removeAll()
    decoder.pruner.records.removeAll()
    try planPruning(Request(tokens: [], images: [path], maxTokens: 1), &result)
    let whole = try pictureRows(path)
    stream.beginEncoding()
    defer { endEncoding() }
    let count = try place(imageAt: path, at: 0, &result)
    return EncodedImage(
      values: Array(
        UnsafeBufferPointer(start: decoder.hidden.base, count: count * decoder.hidden.dim)),
      rows: visual.isReduced ? PictureRows(wholeCount: count) : whole, whole: whole,
      origins: visual.isReduced ? Array(visual.origins[..<count]) : [])
  }

  /// Where the prompt's visual rows are dropped, decided before its pictures are read.
  mutating func planPruning(
    _ request: Request, _ result: inout Generation
  ) throws(RuntimeError) {
    var tokenCount = 0
    for path in request.images { tokenCount += try pictureRows(path).tokenCount }
    let layerCount = config.text.layerCount
    do {
      let flow = try decoder.pruner.pruning.flow(tokenCount: tokenCount, layerCount: layerCount)
      schedule = flow.schedule
      entering = (flow.entering, tokenCount, 0)
    } catch {
      throw .schedule(error)
    }
    result.visualTokensAverage = schedule.average(entering.rows, layerCount: layerCount)
  }

  /// Rows that the picture would take, from its header.
  package func visualRowCount(_ path: String) throws(RuntimeError) -> Int {
    try pictureRows(path).rowCount
  }

  private func pictureRows(_ path: String) throws(RuntimeError) -> PictureRows {
    guard let encoder else { throw .modelTakesNoImages }
    do {
      return try encoder.rows(ofPictureAt: path)
    } catch {
      throw .image(error)
    }
  }

  /// The tower's weights and buffers make room for the decoder's.
  func endEncoding() {
    stream.endEncoding()
    arena.giveBack(from: plan.decoderEnd)
  }

  /// Decodes and encodes one picture into the decoder's rows from `row` on; returns their number.
  mutating func place(imageAt path: String, at row: Int, _ result: inout Generation)
    throws(RuntimeError) -> Int
  {
    guard let encoder else { throw .modelTakesNoImages }
    let start = ProcessStatus.monotonicMilliseconds
    // Of the prompt's picture before this one.
    stream.endEncoding()
    arena.giveBack(from: plan.imageEnd)
    let picture: VisionEncoder.Loaded
    do {
      picture = try encoder.load(path)
    } catch {
      throw .image(error)
    }
    let decoded = ProcessStatus.monotonicMilliseconds
    let request = zipRequest(picture.rows.tokenCount)
    arena.giveBack(from: plan.visionEnd)
    if let request, picture.isTiled {
      let count = try place(tilesOf: picture, request, encoder, at: row, &result)
      result.imageDecodeMilliseconds += decoded - start
      result.imageEncodeMilliseconds += ProcessStatus.monotonicMilliseconds - decoded
      return count
    }
    let count = request?.count ?? picture.rows.rowCount
    let reducing = try encoder.encode(
      picture, into: decoder.hidden.rows(row..<(row + count)), request)
    result.imageDecodeMilliseconds += decoded - start
    result.imageEncodeMilliseconds += ProcessStatus.monotonicMilliseconds - decoded
    result.visualTokens += request?.count ?? picture.rows.tokenCount
    result.visualRows += count
    if let request, let zip = encoder.zip {
      visual.append(
        reduced: row..<(row + count), PictureRows(wholeCount: visual.tokenCount))
      noteReduction(zip, request, milliseconds: reducing)
    } else {
      visual.append(first: row, picture.rows)
    }
    return count
  }

  /// Copies an encoded picture into the decoder's rows from `row` on; returns their number.
  mutating func place(encoded image: EncodedImage, at row: Int, _ result: inout Generation)
    -> Int
  {
    let count = image.rows.rowCount
    precondition(image.values.count == count * decoder.hidden.dim, "an encoded picture")
    image.values.withUnsafeBufferPointer {
      decoder.hidden[row].update(from: $0.baseAddress!, count: $0.count)
    }
    if image.origins.isEmpty {
      visual.append(first: row, image.rows)
    } else {
      for (index, origin) in image.origins.enumerated() { visual.origins[row + index] = origin }
      visual.append(reduced: row..<(row + count), image.whole)
    }
    result.visualTokens += visual.tokens(row..<(row + count))
    result.visualRows += count
    return count
  }

  /// What the encoder shall hand over of the next picture, in proportion; nil: everything.
  private mutating func zipRequest(_ tokenCount: Int) -> ZipRequest? {
    let pruning = decoder.pruner.pruning
    guard pruning.method.zips, entering.rows < entering.tokens else { return nil }
    func owed(_ tokens: Int) -> Int {
      (entering.rows * tokens + entering.tokens / 2) / entering.tokens
    }
    let count = owed(entering.seen + tokenCount) - owed(entering.seen)
    entering.seen += tokenCount
    let hasClassToken = config.vision?.dropsClassToken == false
    return ZipRequest(
      count: count, score: pruning.patchScore,
      keepsClassToken: hasClassToken || pruning.patchScore == .cls,
      sortsByPlace: pruning.positions == .original)
  }

  /// Encodes a picture's tiles, of each of which the encoder hands over a part.
  private mutating func place(
    tilesOf picture: VisionEncoder.Loaded, _ request: ZipRequest, _ encoder: VisionEncoder,
    at row: Int, _ result: inout Generation
  ) throws(RuntimeError) -> Int {
    let records = decoder.pruner.records
    let room = row..<(row + encoder.config.maxVisualRowCount)
    records.beginZip(image: visual.imageCount, tokenCount: picture.rows.tokenCount)
    let (count, milliseconds) = try encoder.encodeReduced(
      picture, into: decoder.hidden.rows(room), request,
      origins: visual.origins.baseAddress! + row, note: { records.note($0, $1) })
    let rows = row..<(row + count)
    visual.append(reduced: rows, picture.rows)
    records.endZip(origins: visual.origins[rows], milliseconds: milliseconds)
    result.visualTokens += visual.tokens(rows)
    result.visualRows += count
    return count
  }

  /// Tells the rows which tokens they are, and the report what was done.
  private mutating func noteReduction(
    _ zip: VisionZip, _ request: ZipRequest, milliseconds: Double
  ) {
    let image = visual.imageCount - 1
    let first = config.vision?.dropsClassToken == false ? 1 : 0
    for (index, row) in visual[image].enumerated() {
      visual.origins[row] = zip.order[index] + Int32(first)
    }
    decoder.pruner.records.note(
      zip, image: image, origins: visual.origins[visual[image]], tokenCount: visual.tokenCount,
      firstPatch: first, milliseconds: milliseconds)
  }
}
