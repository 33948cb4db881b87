import PIOFormat

/// Where every byte of the runtime's own memory goes: a pure function of the model's numbers and the limits.
///
/// Regions that are not needed at the same time share their bytes: the image's buffers, the vision encoder's
/// and the decoder's scratch.
public struct ArenaLayout: Equatable, Sendable {
  public let limits: Limits
  /// Rows each decoder layer can hold.
  public let layerCapacities: [Int]
  /// Most rows of one prefill: all text and all images.
  public let promptRows: Int
  /// Most rows of one image.
  let imageRows: Int
  /// Rows that go through a layer together.
  public let chunkRows: Int
  public let arenaByteCount: Int
  public var kvByteCount: Int { slot.kv.byteCount }
  /// Ends of what is in use while an image is decoded, while it is encoded, and while the decoder runs. All three
  /// begin with what they share, up to `sharedEnd`.
  let imageEnd: Int
  let visionEnd: Int
  let decoderEnd: Int
  let sharedEnd: Int

  /// What belongs to one conversation; all else is shared.
  let slot: SlotRegions
  let prompt: PromptRegions
  /// Copies of two small tensors that every pass needs, wherever the file's pages are.
  let inverseFrequencies: Region<Float>
  let norm: Region<Float>
  /// What an embedding row is gathered from.
  let embeddingRow: Region<UInt8>
  let pruning: PruningRegions
  let operations: OperationRegions
  let decoder: DecoderRegions
  let vision: VisionRegions?

  /// Rows of a chunk: enough that a weight read once serves many, few enough that the scratch stays small.
  static let maxChunkRows = 128

  /// - Parameters:
  ///   - tensors: the file's, all of them.
  ///   - maxPieceBytes: of the longest piece of text that a token stands for.
  init(
    _ config: ModelConfig, _ tensors: [TensorEntry], limits: Limits, maxPieceBytes: Int,
    chunkRows: Int = ArenaLayout.maxChunkRows
  ) throws(RuntimeError) {
    let text = config.text
    let rows = try ArenaLayout.promptRows(config, limits)
    let chunk = min(rows, chunkRows)
    self.limits = limits
    (promptRows, self.chunkRows) = (rows, chunk)
    imageRows = config.vision?.maxRowCount ?? 0
    layerCapacities = try ArenaLayout.capacities(config, limits)
    var layout = Layout()
    slot = SlotRegions(
      &layout, text, limits: limits, capacities: layerCapacities, promptRows: rows,
      maxPieceBytes: maxPieceBytes)
    prompt = PromptRegions(
      &layout, config, imageCount: limits.imageCount, visualRows: rows - limits.contextRows,
      rows: rows)
    inverseFrequencies = layout.reserve(text.headDim / 2)
    norm = layout.reserve(text.dim)
    embeddingRow = layout.reserve(Embedding.rowByteCount(tensors))
    let selection = SelectionRegions(&layout, promptRows: rows)
    let lastQuery = layout.reserve(text.headCount * text.headDim, Float.self)
    let records = RecordRegions(
      &layout, stageCount: try ArenaLayout.stageCount(config, limits),
      imageCount: limits.imageCount, visualRows: rows - limits.contextRows)
    operations = OperationRegions(
      &layout, config, tensors, limits: limits, promptRows: rows, chunkRows: chunkRows)
    sharedEnd = layout.end

    // From here on what is not needed at the same time lies in the same bytes.
    vision = VisionRegions(&layout, config, limits: limits, chunkRows: chunkRows)
    imageEnd = vision?.imageEnd ?? sharedEnd
    visionEnd = vision?.end ?? sharedEnd
    layout.rewind(to: sharedEnd)
    decoder = DecoderRegions(&layout, text, chunkRows: chunk)
    let scratchEnd = layout.end
    // A stage runs between two layers.
    layout.rewind(to: sharedEnd)
    pruning = PruningRegions(
      selection: selection, lastQuery: lastQuery, records: records,
      saliency: SaliencyRegions(&layout, text, limits: limits, promptRows: rows, chunkRows: chunk))
    decoderEnd = max(scratchEnd, layout.end)
    arenaByteCount = layout.peak
  }

  /// All text and all images of the session, as long as the model has positions for them.
  private static func promptRows(
    _ config: ModelConfig, _ limits: Limits
  ) throws(RuntimeError) -> Int {
    let visualRows = (config.vision?.maxRowCount ?? 0) * limits.imageCount
    let rows = limits.contextRows + visualRows
    guard rows <= config.text.maxPositions else {
      throw .contextTooLong(rows: rows, maxRows: config.text.maxPositions)
    }
    return rows
  }

  /// Text rows and, for each image, what the schedule leaves of it: with several images in one prompt a layer
  /// never sees more than with each in a prompt of its own.
  ///
  /// An image of fewer tokens may leave more of them to the later layers: the largest of all that it can come to
  /// counts. An end of a line stays where one of its tokens does.
  package static func capacities(_ config: ModelConfig, _ limits: Limits) throws(RuntimeError)
    -> [Int]
  {
    let layerCount = config.text.layerCount
    let shapes = config.vision?.layouts ?? []
    // An image of fewer tokens may have more of the rows between them.
    let lineEnds = shapes.map(\.lineEndCount).max() ?? 0
    let texts = shapes.map(\.textCount).max() ?? 0
    var rows = [Int](repeating: 0, count: layerCount)
    for pruning in limits.prunings {
      for shape in shapes {
        let route = try route(pruning, shape, layerCount)
        let tokens = route.schedule.tokens(route.entryCount, layerCount: layerCount)
        for (layer, count) in tokens.enumerated() {
          let isWhole = count == shape.tokenCount
          let most = isWhole ? shape.rowCount : count + min(lineEnds, count) + texts
          rows[layer] = max(rows[layer], most)
        }
      }
    }
    // The shares of images of several sizes are rounded one by one.
    let spare = shapes.count > 1 && limits.imageCount > 1 ? limits.imageCount : 0
    return rows.map { limits.contextRows + limits.imageCount * $0 + spare }
  }

  /// Most stages of one prompt. Several images may exceed a budget that none of them exceeds alone.
  static func stageCount(_ config: ModelConfig, _ limits: Limits) throws(RuntimeError) -> Int {
    var most = 0
    for pruning in limits.prunings {
      if limits.imageCount > 1 { most = max(most, pruning.mostStages + 1) }
      for shape in config.vision?.layouts ?? [] {
        // One in the encoder.
        most = max(
          most, try route(pruning, shape, config.text.layerCount).schedule.stages.count + 1)
      }
    }
    return most
  }

  /// What happens to one image.
  private static func route(
    _ pruning: Pruning, _ image: VisualLayout, _ layerCount: Int
  ) throws(RuntimeError) -> (entryCount: Int, schedule: Schedule) {
    do {
      return try pruning.route(tokenCount: image.tokenCount, layerCount: layerCount)
    } catch {
      throw .schedule(error)
    }
  }

  /// One layer's slice of the KV arena, a multiple of 64 bytes.
  static func layerByteCount(_ capacity: Int, _ rowBytes: Int) -> Int {
    (capacity * rowBytes + 63) & ~63
  }
}
