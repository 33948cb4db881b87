import PIOFormat
import PIOVision

/// Prompts on their way into the decoder's rows.
extension Runtime {
  /// What `layOut` has put into the decoder's first rows. No tuple: Swift makes the type of one with a struct of arrays on
  /// the heap, at its first use.
  struct DecoderInput {
    let rowCount: Int
    let route: VisualRoute
  }

  /// Fills the decoder's first rows with the prompt's embeddings.
  func layOut(
    _ prompt: Prompt, _ slot: SlotState, _ cancellation: Cancellation?, _ result: inout Prefill
  ) throws(RuntimeError) -> DecoderInput {
    var visual = visualRows(prompt.layouts)
    let imageToken = config.specialTokens.image
    model.decoder.pruner.records.removeAll()
    let encodes = prompt.needsEncoder
    if encodes { model.stream.beginEncoding() }
    defer {
      if encodes { model.endEncoding() }
    }
    var row = 0
    if let pending = slot.pending { try placeText(pending, &row, visual) }
    for token in prompt.tokens {
      if token == imageToken {
        try placeImage(prompt, &row, &visual, cancellation, &result)
      } else {
        try placeText(token, &row, visual)
      }
    }
    return DecoderInput(
      rowCount: row,
      route: VisualRoute(rows: visual, schedule: prompt.schedule, pruning: prompt.pruning))
  }

  private func visualRows(_ layouts: [VisualLayout]) -> VisualRows {
    VisualRows(layouts, spans: model.visualSpans, origins: model.visualOrigins)
  }

  private func placeText(
    _ token: Int32, _ row: inout Int, _ visual: VisualRows
  ) throws(RuntimeError) {
    try model.embed(token, at: row)
    visual.origins[row] = 0
    row += 1
  }

  /// The prompt's next image.
  private func placeImage(
    _ prompt: Prompt, _ row: inout Int, _ visual: inout VisualRows,
    _ cancellation: Cancellation?, _ result: inout Prefill
  ) throws(RuntimeError) {
    let index = visual.imageCount
    let count: Int
    switch prompt.images[index] {
    case .encoded(let image): count = place(image, at: row, &visual)
    case .open(let file, let image):
      let start = ProcessStatus.monotonicMilliseconds
      try load(file)
      let decoded = ProcessStatus.monotonicMilliseconds
      count = try place(
        image, at: row, &visual, share: prompt.encoderShare(of: index), prompt.pruning,
        cancellation)
      result.imageDecodeMilliseconds += decoded - start
      result.imageEncodeMilliseconds += ProcessStatus.monotonicMilliseconds - decoded
    }
    result.visualTokens += visual.tokenCount(row..<(row + count))
    row += count
  }

  /// Decodes an image, in the memory of the one before it.
  private func load(_ image: OpenImage) throws(RuntimeError) {
    guard let encoder = model.encoder else { throw .modelTakesNoImages }
    model.stream.endEncoding()
    model.arena.giveBack(from: plan.arena.imageEnd)
    do {
      try encoder.load(image)
    } catch {
      throw .image(error)
    }
    model.arena.giveBack(from: plan.arena.visionEnd)
  }

  /// Encodes the image loaded last into the decoder's rows from `row` on, all of it or as many tokens as `share` says.
  /// Returns the number of rows.
  private func place(
    _ image: LoadedImage, at row: Int, _ visual: inout VisualRows, share: Int?,
    _ pruning: Pruning, _ cancellation: Cancellation?
  ) throws(RuntimeError) -> Int {
    guard let encoder = model.encoder, let vision = config.vision else {
      throw .modelTakesNoImages
    }
    let hidden = model.decoder.hidden
    guard let share else {
      let count = image.layout.rowCount
      try encoder.encode(
        image, into: hidden.rows(row..<(row + count)), model.decoder.deepstack.part(visual),
        cancellation)
      visual.append(first: row)
      try embedText(of: image.layout, at: row, visual)
      return count
    }
    let room = row..<(row + plan.arena.imageRows)
    let reduction = Reduction(
      request: ZipRequest(
        count: share, score: vision.patchScore(pruning),
        keepsClassToken: vision.hasClassToken || vision.patchScore(pruning) == .cls,
        sortsByPlace: pruning.positions == .original,
        rule: pruning.method.zipsByWindows ? .windows : .visionzip),
      image: visual.imageCount,
      origins: UnsafeMutableBufferPointer(rebasing: visual.origins[room]),
      records: model.decoder.pruner.records)
    let count = try encoder.encode(
      image, into: hidden.rows(room), model.decoder.deepstack.part(visual), reduction, cancellation)
    visual.append(reduced: row..<(row + count))
    try embedText(of: image.layout, at: row, visual)
    return count
  }

  /// The text between the tokens of an image that was placed from row `first` on.
  private func embedText(
    of layout: VisualLayout, at first: Int, _ visual: VisualRows
  ) throws(RuntimeError) {
    var row = first
    for part in layout.parts {
      guard case .text(let ids) = part else { continue }
      for id in ids {
        while visual.origins[row] != VisualRows.text { row += 1 }
        try model.embed(id, at: row)
        row += 1
      }
    }
  }

  /// Copies an encoded image into the decoder's rows from `row` on. Returns their number.
  private func place(_ image: EncodedImage, at row: Int, _ visual: inout VisualRows) -> Int {
    let hidden = model.decoder.hidden
    precondition(image.values.count == image.rowCount * hidden.dim, "an encoded image")
    image.values.withUnsafeBufferPointer {
      hidden[row].update(from: $0.baseAddress!, count: $0.count)
    }
    placeDeepstack(of: image, visual)
    if image.origins.isEmpty {
      visual.append(first: row)
    } else {
      for (index, origin) in image.origins.enumerated() { visual.origins[row + index] = origin }
      visual.append(reduced: row..<(row + image.rowCount))
    }
    return image.rowCount
  }

  // MARK: One image alone

  /// Encodes one image as a prompt with it alone is pruned, for `Request.encodedImages`. Allocates.
  ///
  /// `tokenCount`: so many of its tokens, whatever `pruning` says.
  package func encode(
    _ image: Image, _ pruning: Pruning, tokenCount: Int? = nil
  ) throws(RuntimeError) -> EncodedImage {
    guard case .open(let file, let loaded) = try model.open(image) else {
      preconditionFailure("an image that was opened")
    }
    var share = tokenCount
    if tokenCount == nil { share = try self.share(of: loaded.layout, pruning) }
    var visual = visualRows([loaded.layout])
    model.decoder.pruner.records.removeAll()
    model.stream.beginEncoding()
    defer { model.endEncoding() }
    try load(file)
    let part = model.decoder.deepstack.part(visual)
    let deepstackCount = part.layerCount
    let count = try place(loaded, at: 0, &visual, share: share, pruning, nil)
    let hidden = model.decoder.hidden
    let origins = visual.isReduced ? Array(visual.origins[..<count]) : []
    return EncodedImage(
      values: Array(UnsafeBufferPointer(start: hidden.base, count: count * hidden.dim)),
      rowCount: count, layout: loaded.layout,
      origins: origins, deepstack: (0..<deepstackCount).flatMap { part.rows($0, of: origins) })
  }

  private func placeDeepstack(of image: EncodedImage, _ visual: VisualRows) {
    let part = model.decoder.deepstack.part(visual)
    let count = part.layerCount > 0 ? image.deepstack.count / part.layerCount : 0
    for layer in 0..<part.layerCount {
      part.fill(
        layer, of: image.origins, from: image.deepstack[(layer * count)..<((layer + 1) * count)])
    }
  }

  /// What the encoder hands over of an image that a prompt has alone; nil: all of it.
  private func share(
    of layout: VisualLayout, _ pruning: Pruning
  ) throws(RuntimeError) -> Int? {
    guard pruning.method.zips else { return nil }
    do {
      let entry = try pruning.route(
        tokenCount: layout.tokenCount, layerCount: config.text.layerCount
      ).entryCount
      return entry < layout.tokenCount ? entry : nil
    } catch {
      throw .schedule(error)
    }
  }

  /// Rows that an image takes in the decoder, from its header.
  package func visualRowCount(_ image: Image) throws(RuntimeError) -> Int {
    try model.open(image).layout.rowCount
  }
}
