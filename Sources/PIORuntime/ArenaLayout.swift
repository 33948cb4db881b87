import CPIOKernels
import PIOFormat
import PIOVision

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
  /// Rows that go through a layer together.
  public let chunkRows: Int
  public let arenaByteCount: Int
  public let kvByteCount: Int
  /// Ends of what is in use while an image is decoded, while it is encoded, and while the decoder runs. All three
  /// begin with what they share, up to `sharedEnd`.
  let imageEnd: Int
  let visionEnd: Int
  let decoderEnd: Int
  let sharedEnd: Int

  let kv: Region<UInt8>
  let hidden: Region<Float>
  /// Copies of two small tensors that every pass needs, wherever the file's pages are.
  let inverseFrequencies: Region<Float>
  let norm: Region<Float>
  /// What an embedding row is gathered from.
  let embeddingRow: Region<UInt8>
  /// Each row's position behind the first one's.
  let offsets: Region<Int32>
  let kept: Region<Int32>
  let visualSpans: Region<Int32>
  let visualOrigins: Region<Int32>
  let pruning: PruningRegions
  let cosines: Region<Float>
  let sines: Region<Float>
  let logits: Region<Float>
  let candidates: Region<Int32>
  let seen: Region<UInt8>
  let text: Region<UInt8>
  let linear: LinearRegions
  let attention: Region<Float>
  /// A decoded row's attention to parts of a long past, `(headCount, parts, headDim + 2)`.
  let attentionParts: Region<Float>
  /// The position of every cached row of every layer; empty unless there is a window that slides over them.
  let positions: Region<Int32>
  let decoder: DecoderRegions
  let vision: VisionRegions?

  /// Rows of a chunk: enough that a weight read once serves many, few enough that the scratch stays small.
  static let maxChunkRows = 128

  init(
    _ config: ModelConfig, encodings: [TensorEncoding], limits: Limits, maxPieceBytes: Int,
    chunkRows: Int = ArenaLayout.maxChunkRows
  ) throws(RuntimeError) {
    let text = config.text
    let visualRows = (config.vision?.maxRowCount ?? 0) * limits.imageCount
    let rows = limits.contextRows + visualRows
    guard rows <= text.maxPositions else {
      throw .contextTooLong(rows: rows, maxRows: text.maxPositions)
    }
    let chunk = min(rows, chunkRows)
    var layout = Layout()

    let capacities = try ArenaLayout.capacities(config, limits)
    let rowBytes = text.kvHeadCount * limits.kv.byteCount(headDim: text.headDim)
    kvByteCount = capacities.reduce(0) { $0 + ArenaLayout.layerByteCount($1, rowBytes) }
    kv = layout.reserve(kvByteCount)
    hidden = layout.reserve(rows * text.dim)
    inverseFrequencies = layout.reserve(text.headDim / 2)
    norm = layout.reserve(text.dim)
    embeddingRow = layout.reserve(Embedding.rowByteCount(config, encodings))
    offsets = layout.reserve(rows)
    kept = layout.reserve(rows)
    visualSpans = layout.reserve(2 * limits.imageCount)
    visualOrigins = layout.reserve(rows)
    let selection = SelectionRegions(&layout, promptRows: rows)
    let lastQuery = layout.reserve(text.headCount * text.headDim, Float.self)
    let records = RecordRegions(
      &layout, stageCount: try ArenaLayout.stageCount(config, limits),
      imageCount: limits.imageCount,
      visualRows: visualRows)
    cosines = layout.reserve(rows * text.headDim / 2)
    sines = layout.reserve(rows * text.headDim / 2)
    logits = layout.reserve(text.vocabSize)
    candidates = layout.reserve(text.vocabSize)
    seen = layout.reserve((text.vocabSize + 7) / 8)
    self.text = layout.reserve(maxPieceBytes + 16)
    linear = LinearRegions(
      &layout, config: config, encodings: encodings, limits: limits, chunkRows: chunkRows)
    let scratch = max(text.headDim, config.vision?.headDim ?? 0)
    attention = layout.reserve(pio_attention_scratch(scratch) * limits.threadCount)
    let slides = text.slidingWindow.map { $0 < rows } ?? false
    // Where a window slides, a thread takes a row at a time.
    let parts = max((rows + keysPerPart - 1) / keysPerPart, slides ? limits.threadCount : 0)
    attentionParts = layout.reserve(text.headCount * (text.headDim + 2) * parts)
    positions = layout.reserve(slides ? capacities.reduce(0, +) : 0)

    let shared = layout.end
    if let vision = config.vision, limits.imageCount > 0 {
      let regions = VisionRegions(&layout, vision, limits: limits, chunkRows: chunkRows)
      self.vision = regions
      imageEnd = regions.imageEnd
      // The patches are read by the encoder's first step, wherever they end.
      visionEnd = max(layout.end, regions.patchesEnd)
    } else {
      self.vision = nil
      imageEnd = shared
      visionEnd = shared
    }
    layout.rewind(to: shared)
    decoder = DecoderRegions(&layout, text, chunkRows: chunk)
    // A stage runs between two layers.
    let scratchEnd = layout.end
    layout.rewind(to: shared)
    let readsBlock = limits.prunings.contains { $0.prunes && $0.method.readsBlock }
    pruning = PruningRegions(
      selection: selection, lastQuery: lastQuery, records: records,
      saliency: readsBlock && visualRows > 0
        ? SaliencyRegions(&layout, text, promptRows: rows, chunkRows: chunk) : nil)
    decoderEnd = max(scratchEnd, layout.end)
    sharedEnd = shared

    self.limits = limits
    layerCapacities = capacities
    promptRows = rows
    self.chunkRows = chunk
    arenaByteCount = layout.peak
  }

  /// Text rows and, for each image, what the schedule leaves of it: with several images in one prompt a layer
  /// never sees more than with each in a prompt of its own.
  ///
  /// An image of fewer tokens may leave more of them to the later layers: the largest of all that it can come to
  /// counts. An end of a line stays where one of its tokens does.
  static func capacities(_ config: ModelConfig, _ limits: Limits) throws(RuntimeError) -> [Int] {
    let layerCount = config.text.layerCount
    let shapes = config.vision?.layouts ?? []
    // An image of fewer tokens may have more of the rows between them.
    let lineEnds = shapes.map(\.lineEndCount).max() ?? 0
    let texts = shapes.map(\.textCount).max() ?? 0
    var rows = [Int](repeating: 0, count: layerCount)
    for pruning in limits.prunings {
      for shape in shapes {
        let flow = try flow(pruning, shape, layerCount)
        let tokens = flow.schedule.tokens(flow.entering, layerCount: layerCount)
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

  /// Most stages of one prompt.
  static func stageCount(_ config: ModelConfig, _ limits: Limits) throws(RuntimeError) -> Int {
    var most = 0
    for pruning in limits.prunings {
      for shape in config.vision?.layouts ?? [] {
        // One in the encoder.
        most = max(most, try flow(pruning, shape, config.text.layerCount).schedule.stages.count + 1)
      }
    }
    return most
  }

  /// What happens to one image.
  private static func flow(
    _ pruning: Pruning, _ image: VisualLayout, _ layerCount: Int
  ) throws(RuntimeError) -> (entering: Int, schedule: Schedule) {
    do {
      return try pruning.flow(tokenCount: image.tokenCount, layerCount: layerCount)
    } catch {
      throw .schedule(error)
    }
  }

  /// One layer's slice of the KV arena, a multiple of 64 bytes.
  static func layerByteCount(_ capacity: Int, _ rowBytes: Int) -> Int {
    (capacity * rowBytes + 63) & ~63
  }
}

/// What `linear` needs: the quantized input of one chunk, and a tile of dequantized weights for each thread.
struct LinearRegions: Equatable, Sendable {
  let values: Region<Int8>
  let scales: Region<Float>
  let sums: Region<Int32>
  /// `(threadCount, tileRows, widest input)`; empty where no tensor needs it.
  let tiles: Region<Float>
  let tileFloats: Int

  init(
    _ layout: inout Layout, config: ModelConfig, encodings: [TensorEncoding], limits: Limits,
    chunkRows: Int
  ) {
    // The encoder's chunks and the decoder's are no longer than this.
    let rows = chunkRows
    var paddedColumns = 0
    var groupCount = 0
    var tileColumns = 0
    for (spec, encoding) in zip(tensorSpecs(for: config), encodings) where spec.role == .matrix {
      let columns = spec.shape.columns
      if encoding.kind.isQuantized && limits.compute != .f32 {
        let groups = (columns - 1) / encoding.group + 1
        paddedColumns = max(paddedColumns, groups * encoding.group)
        groupCount = max(groupCount, groups)
      } else if encoding.kind != .f32 {
        tileColumns = max(tileColumns, columns)
      }
    }
    values = layout.reserve(rows * paddedColumns)
    scales = layout.reserve(rows * groupCount)
    sums = layout.reserve(rows * groupCount)
    tileFloats = tileColumns * linearTileRows
    tiles = layout.reserve(tileFloats * limits.threadCount)
  }
}

/// One chunk's scratch in the decoder.
struct DecoderRegions: Equatable, Sendable {
  let normed: Region<Float>
  let query: Region<Float>
  let key: Region<Float>
  let value: Region<Float>
  let gate: Region<Float>
  let up: Region<Float>

  init(_ layout: inout Layout, _ text: TextConfig, chunkRows: Int) {
    normed = layout.reserve(chunkRows * text.dim)
    query = layout.reserve(chunkRows * text.headCount * text.headDim)
    key = layout.reserve(chunkRows * text.kvHeadCount * text.headDim)
    value = layout.reserve(chunkRows * text.kvHeadCount * text.headDim)
    gate = layout.reserve(chunkRows * text.hiddenDim)
    up = layout.reserve(chunkRows * text.hiddenDim)
  }
}
