import CPIOKernels
import PIOFormat
import PIOVision

/// Which arithmetic runs.
public enum Compute: String, Sendable, CaseIterable {
  /// Each tensor in its own: int8/int4 quantized, float kinds in f32.
  case auto
  /// Every tensor in f32, quantized ones dequantized tile by tile: the oracle of the quantized path.
  case f32
  /// As auto, but a model with a float matrix is refused by the command line.
  case quantized
}

/// How keys and values are kept.
public enum KVKind: String, Sendable, CaseIterable {
  case f32, f16, int8

  var kernelKind: UInt32 {
    switch self {
    case .f32: UInt32(PIO_F32.rawValue)
    case .f16: UInt32(PIO_F16.rawValue)
    case .int8: UInt32(PIO_KV_INT8.rawValue)
    }
  }

  /// Bytes of one position of one head, keys and values and their scales.
  func byteCount(headDim: Int) -> Int {
    switch self {
    case .f32: 8 * headDim
    case .f16: 4 * headDim
    case .int8: 2 * headDim + 8
    }
  }
}

/// What a session may ask for; the plan is made for exactly this much.
public struct Limits: Equatable, Sendable {
  /// Text rows of the whole session, generated ones included.
  public var contextRows = 1024
  /// Images of the whole session.
  public var imageCount = 1
  public var maxImagePixels = ImageLimits().maxPixels
  /// Heap of the image codecs; nil: what the other phases need anyway, and at least `minCodecBytes`.
  public var codecBytes: Int?
  public var threadCount = 1
  public var kv = KVKind.f16
  public var compute = Compute.auto
  public var pruning = Pruning()
  /// Most bytes of the process that may be resident; nil: as many as there are.
  public var memoryCap: Int?
  public var stream = StreamMode.auto
  /// Decoder weights that stay in memory are locked there.
  public var locksWeights = false
  /// Images may come when the decoder has run already: a chat, or one conversation after another.
  public var isConversation = true

  /// Rows of an image at a time, and a progressive image of 2.7 million pixels (4:2:0).
  static let minCodecBytes = 8 << 20
  static let maxCodecBytes = ImageLimits().maxCodecBytes

  /// Bytes of text that can be worth encoding: more than fill the context with the longest pieces, four times over for
  /// what normalisation takes away.
  func maxTextBytes(maxPieceBytes: Int) -> Int {
    contextRows.multipliedReportingOverflow(by: 4 * max(4, maxPieceBytes)).partialValue
  }

  /// Bytes of a line of JSON around such a text.
  func maxLineBytes(maxPieceBytes: Int) -> Int {
    2 * maxTextBytes(maxPieceBytes: maxPieceBytes) + (16 << 10) * (1 + imageCount)
  }

  /// Other ways to prune that the session may change to (`Engine.setPruning`): there is room for each of them.
  public var alternatives: [Pruning] = []

  public init() {}

  /// All ways to prune that the plan has room for.
  public var prunings: [Pruning] { [pruning] + alternatives }

  func image(codecBytes: Int) -> ImageLimits {
    var image = ImageLimits()
    image.maxPixels = maxImagePixels
    // As many pixels in a shape of up to 16:1; the resizer's tables grow with the longest edge.
    image.maxEdge = min(image.maxEdge, 4 * Int(Double(maxImagePixels).squareRoot().rounded(.up)))
    image.maxCodecBytes = codecBytes
    return image
  }
}

/// What happens to weights that are not in use.
public enum StreamMode: String, Sendable, CaseIterable {
  /// As many as fit under the cap stay, the others are read each time they are needed.
  case auto
  /// None stays.
  case on
  /// The file is mapped and left to the kernel.
  case off
}

/// Where every byte of the runtime's own memory goes: a pure function of the model's numbers and the limits.
///
/// Regions that are not needed at the same time share their bytes: the image's buffers, the vision encoder's
/// and the decoder's scratch.
public struct Plan: Equatable, Sendable {
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
    chunkRows: Int = Plan.maxChunkRows
  ) throws(RuntimeError) {
    let text = config.text
    let visualRows = (config.vision?.maxVisualRowCount ?? 0) * limits.imageCount
    let rows = limits.contextRows + visualRows
    guard rows <= text.maxPositions else {
      throw .contextTooLong(rows: rows, maxRows: text.maxPositions)
    }
    let chunk = min(rows, chunkRows)
    var layout = Layout()

    let capacities = try Plan.capacities(config, limits)
    let rowBytes = text.kvHeadCount * limits.kv.byteCount(headDim: text.headDim)
    kvByteCount = capacities.reduce(0) { $0 + Plan.layerByteCount($1, rowBytes) }
    kv = layout.reserve(kvByteCount)
    hidden = layout.reserve(rows * text.dim)
    inverseFrequencies = layout.reserve(text.headDim / 2)
    norm = layout.reserve(text.dim)
    embeddingRow = layout.reserve(Embedding.rowByteCount(config, encodings))
    offsets = layout.reserve(rows)
    kept = layout.reserve(rows)
    visualSpans = layout.reserve(4 * limits.imageCount)
    visualOrigins = layout.reserve(rows)
    let selection = SelectionRegions(&layout, promptRows: rows)
    let lastQuery = layout.reserve(text.headCount * text.headDim, Float.self)
    let records = RecordRegions(
      &layout, stageCount: try Plan.stageCount(config, limits), imageCount: limits.imageCount,
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
      visionEnd = max(layout.end, regions.patches.offset + regions.patches.byteCount)
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
      grid: PatchGrid(
        side: config.vision?.patchesPerSide ?? 0,
        firstPatch: config.vision?.dropsClassToken == false ? 1 : 0),
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
    let shapes = config.vision.map(ImageRows.all) ?? []
    let lines = shapes.map(\.lineCount).max() ?? 0
    let isTiled = config.vision?.isTiled ?? false
    var rows = [Int](repeating: 0, count: layerCount)
    for pruning in limits.prunings {
      for shape in shapes {
        let flow = try flow(pruning, shape, layerCount)
        let tokens = flow.schedule.tokens(flow.entering, layerCount: layerCount)
        for (layer, count) in tokens.enumerated() {
          let isWhole = count == shape.tokenCount
          rows[layer] = max(rows[layer], isWhole ? shape.rowCount : count + min(lines, count))
        }
      }
    }
    // The shares of images of several sizes are rounded one by one.
    let spare = isTiled && limits.imageCount > 1 ? limits.imageCount : 0
    return rows.map { limits.contextRows + limits.imageCount * $0 + spare }
  }

  /// Most stages of one prompt.
  static func stageCount(_ config: ModelConfig, _ limits: Limits) throws(RuntimeError) -> Int {
    var most = 0
    for pruning in limits.prunings {
      for shape in config.vision.map(ImageRows.all) ?? [] {
        // One in the encoder.
        most = max(most, try flow(pruning, shape, config.text.layerCount).schedule.stages.count + 1)
      }
    }
    return most
  }

  /// What happens to one image.
  private static func flow(
    _ pruning: Pruning, _ image: ImageRows, _ layerCount: Int
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

/// The image's patches and the encoder's buffers.
struct VisionRegions: Equatable, Sendable {
  /// The pixels of an image's tiles, and the levels they are normalised to; empty for images of one tile.
  let tiles: Region<UInt8>
  let levels: Region<Float>
  let patches: Region<Float>
  let image: Region<UInt8>
  let hidden: Region<Float>
  let query: Region<Float>
  let keyValue: Region<Float>
  let normed: Region<Float>
  let key: Region<Float>
  let value: Region<Float>
  let inner: Region<Float>
  /// Nil where the encoder hands over every row.
  let zip: ZipRegions?
  let chunkRows: Int
  /// Where the image's buffers end.
  let imageEnd: Int

  init(_ layout: inout Layout, _ vision: VisionConfig, limits: Limits, chunkRows: Int) {
    let rows = vision.positionCount
    let chunk = min(rows, chunkRows)
    self.chunkRows = chunk
    let preparation = ImagePreparation(vision)
    let resolutions = vision.tileResolutions
    let isTiled = vision.isTiled
    tiles = layout.reserve(
      isTiled ? tilePixelByteCount(preparation, resolutions: resolutions) : 0)
    levels = layout.reserve(isTiled ? 3 * 256 : 0)
    hidden = layout.reserve(rows * vision.dim)
    let mark = layout.end
    // The image is decoded and resized before the first layer needs its buffers; patches are read by the
    // patch embedding alone.
    patches = layout.reserve(vision.patchCount * 3 * vision.patchSize * vision.patchSize)
    let bounds = limits.image(codecBytes: 0)
    image = layout.reserve(
      isTiled
        ? tileScratchByteCount(preparation, resolutions: resolutions, limits: bounds)
        : imageScratchByteCount(preparation, limits: bounds))
    imageEnd = layout.end
    layout.rewind(to: mark)
    query = layout.reserve(rows * vision.dim)
    keyValue = layout.reserve(2 * rows * vision.dim)
    normed = layout.reserve(chunk * vision.dim)
    key = layout.reserve(chunk * vision.dim)
    value = layout.reserve(chunk * vision.dim)
    inner = layout.reserve(chunk * max(vision.hiddenDim, vision.projectorHiddenDim))
    zip =
      limits.prunings.contains { $0.prunes && $0.method.zips }
      ? ZipRegions(&layout, vision, threadCount: limits.threadCount) : nil
  }
}
