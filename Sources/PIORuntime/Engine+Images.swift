import PIOFormat
import PIOVision

/// Images on their way into the decoder's rows.
extension Engine {
  /// What the decoder gets for one image: `(its rows, dim)`, or where the session reduces images in the encoder,
  /// so many of its tokens.
  package mutating func imageFeatures(
    _ path: String, handingOver count: Int? = nil
  ) throws(RuntimeError) -> [Float] {
    var result = Generation()
    visual.removeAll()
    decoder.pruner.records.removeAll()
    entering = (count ?? 0, count == nil ? 0 : try imageRows(path).tokenCount, 0)
    stream.beginEncoding()
    defer { endEncoding() }
    let count = try place(imageAt: path, at: 0, &result)
    return Array(UnsafeBufferPointer(start: decoder.hidden.base, count: count * decoder.hidden.dim))
  }

  /// Encodes one image as the session prunes, for `Request.encodedImages`. Allocates.
  package mutating func encodeImage(_ path: String) throws(RuntimeError) -> EncodedImage {
    var result = Generation()
    visual.removeAll()
    decoder.pruner.records.removeAll()
    try planPruning(Request(tokens: [], images: [path], maxTokens: 1), &result)
    let whole = try imageRows(path)
    stream.beginEncoding()
    defer { endEncoding() }
    let count = try place(imageAt: path, at: 0, &result)
    return EncodedImage(
      values: Array(
        UnsafeBufferPointer(start: decoder.hidden.base, count: count * decoder.hidden.dim)),
      rows: visual.isReduced ? ImageRows(wholeCount: count) : whole, whole: whole,
      origins: visual.isReduced ? Array(visual.origins[..<count]) : [])
  }

  /// Where the prompt's visual rows are dropped, decided before its images are read.
  mutating func planPruning(
    _ request: Request, _ result: inout Generation
  ) throws(RuntimeError) {
    var tokenCount = 0
    for path in request.images { tokenCount += try imageRows(path).tokenCount }
    let layerCount = config.text.layerCount
    do {
      let route = try decoder.pruner.pruning.route(tokenCount: tokenCount, layerCount: layerCount)
      schedule = route.schedule
      entering = (route.entryCount, tokenCount, 0)
    } catch {
      throw .schedule(error)
    }
    result.visualTokensAverage = schedule.average(entering.rows, layerCount: layerCount)
  }

  /// Rows that the image would take, from its header.
  package func visualRowCount(_ path: String) throws(RuntimeError) -> Int {
    try imageRows(path).rowCount
  }

  private func imageRows(_ path: String) throws(RuntimeError) -> ImageRows {
    guard let encoder else { throw .modelTakesNoImages }
    do {
      return try encoder.rows(ofImageAt: path)
    } catch {
      throw .image(error)
    }
  }

  /// The tower's weights and buffers make room for the decoder's.
  func endEncoding() {
    stream.endEncoding()
    arena.giveBack(from: plan.decoderEnd)
  }

  /// Decodes and encodes one image into the decoder's rows from `row` on; returns their number.
  mutating func place(imageAt path: String, at row: Int, _ result: inout Generation)
    throws(RuntimeError) -> Int
  {
    guard let encoder else { throw .modelTakesNoImages }
    let start = ProcessStatus.monotonicMilliseconds
    // Of the prompt's image before this one.
    stream.endEncoding()
    arena.giveBack(from: plan.imageEnd)
    let image: VisionEncoder.Loaded
    do {
      image = try encoder.load(path)
    } catch {
      throw .image(error)
    }
    let decoded = ProcessStatus.monotonicMilliseconds
    let request = zipRequest(image.rows.tokenCount)
    arena.giveBack(from: plan.visionEnd)
    if let request, image.isTiled {
      let count = try place(tilesOf: image, request, encoder, at: row, &result)
      result.imageDecodeMilliseconds += decoded - start
      result.imageEncodeMilliseconds += ProcessStatus.monotonicMilliseconds - decoded
      return count
    }
    let count = request?.count ?? image.rows.rowCount
    let reducing = try encoder.encode(
      image, into: decoder.hidden.rows(row..<(row + count)), request)
    result.imageDecodeMilliseconds += decoded - start
    result.imageEncodeMilliseconds += ProcessStatus.monotonicMilliseconds - decoded
    result.visualTokens += request?.count ?? image.rows.tokenCount
    result.visualRows += count
    if let request, let zip = encoder.zip {
      visual.append(
        reduced: row..<(row + count), ImageRows(wholeCount: visual.tokenCount))
      noteReduction(zip, request, milliseconds: reducing)
    } else {
      visual.append(first: row, image.rows)
    }
    return count
  }

  /// Copies an encoded image into the decoder's rows from `row` on; returns their number.
  mutating func place(encoded image: EncodedImage, at row: Int, _ result: inout Generation)
    -> Int
  {
    let count = image.rows.rowCount
    precondition(image.values.count == count * decoder.hidden.dim, "an encoded image")
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

  /// What the encoder shall hand over of the next image, in proportion; nil: everything.
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

  /// Encodes an image's tiles, of each of which the encoder hands over a part.
  private mutating func place(
    tilesOf image: VisionEncoder.Loaded, _ request: ZipRequest, _ encoder: VisionEncoder,
    at row: Int, _ result: inout Generation
  ) throws(RuntimeError) -> Int {
    let records = decoder.pruner.records
    let room = row..<(row + encoder.config.maxVisualRowCount)
    records.beginZip(image: visual.imageCount, tokenCount: image.rows.tokenCount)
    let (count, milliseconds) = try encoder.encodeReduced(
      image, into: decoder.hidden.rows(room), request,
      origins: visual.origins.baseAddress! + row, note: { records.note($0, $1) })
    let rows = row..<(row + count)
    visual.append(reduced: rows, image.rows)
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
