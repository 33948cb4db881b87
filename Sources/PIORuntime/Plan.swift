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
  /// Pictures of the whole session.
  public var imageCount = 1
  public var maxImagePixels = ImageLimits().maxPixels
  public var threadCount = 1
  public var kv = KVKind.f16
  public var compute = Compute.auto
  public var pruning = Pruning()

  public init() {}

  var image: ImageLimits {
    var image = ImageLimits()
    image.maxPixels = maxImagePixels
    return image
  }
}

/// Where every byte of the runtime's own memory goes: a pure function of the model's numbers and the limits.
///
/// Regions that are not needed at the same time share their bytes: the picture's buffers, the vision encoder's
/// and the decoder's scratch.
public struct Plan: Equatable, Sendable {
  public let limits: Limits
  /// Rows each decoder layer can hold.
  public let layerCapacities: [Int]
  /// Most rows of one prefill: all text and all pictures.
  public let promptRows: Int
  /// Rows that go through a layer together.
  public let chunkRows: Int
  public let arenaByteCount: Int
  public let kvByteCount: Int

  let kv: Region<UInt8>
  let hidden: Region<Float>
  /// Each row's position behind the first one's.
  let offsets: Region<Int32>
  let kept: Region<Int32>
  let visualSpans: Region<Int32>
  let cosines: Region<Float>
  let sines: Region<Float>
  let logits: Region<Float>
  let candidates: Region<Int32>
  let seen: Region<UInt8>
  let text: Region<UInt8>
  let linear: LinearRegions
  let attention: Region<Float>
  let decoder: DecoderRegions
  let vision: VisionRegions?

  /// Rows of a chunk: enough that a weight read once serves many, few enough that the scratch stays small.
  static let maxChunkRows = 128

  public init(
    _ config: ModelConfig, encodings: [TensorEncoding], limits: Limits, maxPieceBytes: Int
  )
    throws(RuntimeError)
  {
    let text = config.text
    let visualRows = (config.vision?.visualTokenCount ?? 0) * limits.imageCount
    let rows = limits.contextRows + visualRows
    guard rows <= text.maxPositions else {
      throw .contextTooLong(rows: rows, maxRows: text.maxPositions)
    }
    let chunk = min(rows, Plan.maxChunkRows)
    var layout = Layout()

    let capacities = try Plan.capacities(config, limits)
    let rowBytes = text.kvHeadCount * limits.kv.byteCount(headDim: text.headDim)
    kvByteCount = capacities.reduce(0) { $0 + Plan.layerByteCount($1, rowBytes) }
    kv = layout.reserve(kvByteCount)
    hidden = layout.reserve(rows * text.dim)
    offsets = layout.reserve(rows)
    kept = layout.reserve(rows)
    visualSpans = layout.reserve(2 * limits.imageCount)
    cosines = layout.reserve(rows * text.headDim / 2)
    sines = layout.reserve(rows * text.headDim / 2)
    logits = layout.reserve(text.vocabSize)
    candidates = layout.reserve(text.vocabSize)
    seen = layout.reserve((text.vocabSize + 7) / 8)
    self.text = layout.reserve(maxPieceBytes + 16)
    linear = LinearRegions(
      &layout, config: config, encodings: encodings, limits: limits, chunkRows: chunk)
    let scratch = max(text.headDim, config.vision?.headDim ?? 0)
    attention = layout.reserve(pio_attention_scratch(scratch) * limits.threadCount)

    let shared = layout.end
    if let vision = config.vision, limits.imageCount > 0 {
      self.vision = VisionRegions(&layout, vision, limits: limits)
    } else {
      self.vision = nil
    }
    layout.rewind(to: shared)
    decoder = DecoderRegions(&layout, text, chunkRows: chunk)

    self.limits = limits
    layerCapacities = capacities
    promptRows = rows
    chunkRows = chunk
    arenaByteCount = layout.peak
  }

  /// Text rows and, for each picture, what the schedule leaves of it: with several pictures in one prompt a layer
  /// never sees more than with each in a prompt of its own.
  static func capacities(_ config: ModelConfig, _ limits: Limits) throws(RuntimeError) -> [Int] {
    let tokenCount = config.vision?.visualTokenCount ?? 0
    let layerCount = config.text.layerCount
    do {
      let schedule = try limits.pruning.schedule(tokenCount: tokenCount, layerCount: layerCount)
      return schedule.tokens(tokenCount, layerCount: layerCount).map {
        limits.contextRows + limits.imageCount * $0
      }
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
    let visionRows = config.vision.map { min($0.positionCount, Plan.maxChunkRows) } ?? 0
    let rows = max(chunkRows, visionRows)
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

/// The picture's patches and the encoder's buffers.
struct VisionRegions: Equatable, Sendable {
  let patches: Region<Float>
  let image: Region<UInt8>
  let hidden: Region<Float>
  let query: Region<Float>
  let keyValue: Region<Float>
  let normed: Region<Float>
  let key: Region<Float>
  let value: Region<Float>
  let inner: Region<Float>

  init(_ layout: inout Layout, _ vision: VisionConfig, limits: Limits) {
    let rows = vision.positionCount
    let chunk = min(rows, Plan.maxChunkRows)
    hidden = layout.reserve(rows * vision.dim)
    let mark = layout.end
    // The picture is decoded and resized before the first layer needs its buffers; patches are read by the
    // patch embedding alone.
    patches = layout.reserve(vision.patchCount * 3 * vision.patchSize * vision.patchSize)
    image = layout.reserve(
      imageScratchByteCount(
        ImagePreparation(vision), limits: limits.image))
    layout.rewind(to: mark)
    query = layout.reserve(rows * vision.dim)
    keyValue = layout.reserve(2 * rows * vision.dim)
    normed = layout.reserve(chunk * vision.dim)
    key = layout.reserve(chunk * vision.dim)
    value = layout.reserve(chunk * vision.dim)
    inner = layout.reserve(chunk * max(vision.hiddenDim, vision.projectorHiddenDim))
  }
}
