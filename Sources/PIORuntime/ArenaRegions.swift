import CPIOKernels
import PIOFormat

/// What one conversation holds between its turns and steps.
struct SlotRegions: Equatable, Sendable {
  let kv: Region<UInt8>
  /// The position of every cached row of every layer; empty unless there is a window that slides over them.
  let positions: Region<Int32>
  let logits: Region<Float>
  /// Tokens that the sampler ranks.
  let candidates: Region<Int32>
  /// One bit a token: seen in the prompt or the answer.
  let seen: Region<UInt8>
  /// Bytes on their way to whole UTF-8 characters.
  let text: Region<UInt8>

  /// `capacities`: rows of each layer.
  init(
    _ layout: inout Layout, _ text: TextConfig, limits: Limits, capacities: [Int], promptRows: Int,
    maxPieceBytes: Int
  ) {
    let rowBytes = text.kvHeadCount * limits.kv.byteCount(headDim: text.headDim)
    kv = layout.reserve(
      capacities.reduce(0) { $0 + ArenaLayout.layerByteCount($1, rowBytes) })
    positions = layout.reserve(text.windowSlides(over: promptRows) ? capacities.reduce(0, +) : 0)
    logits = layout.reserve(text.vocabSize)
    candidates = layout.reserve(text.vocabSize)
    seen = layout.reserve((text.vocabSize + 7) / 8)
    self.text = layout.reserve(maxPieceBytes + 16)
  }
}

/// The rows of the prompt that is in work.
struct PromptRegions: Equatable, Sendable {
  let hidden: Region<Float>
  /// Each row's position behind the first one's: one number, or for M-RoPE three, `(3, rows)`.
  let offsets: Region<Int32>
  /// Which of the three each rotary frequency turns with; empty where there is one.
  let axes: Region<UInt8>
  let kept: Region<Int32>
  let visualSpans: Region<Int32>
  let visualOrigins: Region<Int32>
  let cosines: Region<Float>
  let sines: Region<Float>
  /// `(deepstackLayers, deepstackTokens, dim)`: what is added to visual tokens behind the first layers.
  let deepstack: Region<Float>
  let deepstackLayers: Int
  let deepstackTokens: Int

  /// `visualRows`: most rows of all images.
  init(
    _ layout: inout Layout, _ config: ModelConfig, imageCount: Int, visualRows: Int, rows: Int
  ) {
    let text = config.text
    hidden = layout.reserve(rows * text.dim)
    offsets = layout.reserve(rows * (text.ropeSections.isEmpty ? 1 : 3))
    axes = layout.reserve(text.ropeSections.isEmpty ? 0 : text.headDim / 2)
    kept = layout.reserve(rows)
    visualSpans = layout.reserve(2 * imageCount)
    visualOrigins = layout.reserve(rows)
    cosines = layout.reserve(rows * text.headDim / 2)
    sines = layout.reserve(rows * text.headDim / 2)
    deepstackLayers = config.vision?.deepstackCount ?? 0
    deepstackTokens = deepstackLayers > 0 ? visualRows : 0
    deepstack = layout.reserve(deepstackLayers * deepstackTokens * text.dim)
  }
}

/// The operations' scratch.
struct OperationRegions: Equatable, Sendable {
  let linear: LinearRegions
  let attention: Region<Float>
  /// A decoded row's attention to parts of a long past, `(headCount, parts, headDim + 2)`.
  let attentionParts: Region<Float>

  init(
    _ layout: inout Layout, _ config: ModelConfig, _ tensors: [TensorEntry], limits: Limits,
    promptRows: Int, chunkRows: Int
  ) {
    let text = config.text
    linear = LinearRegions(&layout, tensors, limits: limits, chunkRows: chunkRows)
    let encoderDim = config.vision?.headDim ?? 0
    let takesWhole = (1...Int(PIO_ALL_DIM)).contains(encoderDim) && limits.compute != .f32
    let floats = max(
      pio_attention_scratch(max(text.headDim, encoderDim)),
      takesWhole ? pio_attention_all_scratch(encoderDim) : 0)
    attention = layout.reserve(floats * limits.threadCount)
    // Where a window slides, a thread takes a row at a time.
    let parts = max(
      (promptRows + keysPerPart - 1) / keysPerPart,
      text.windowSlides(over: promptRows) ? limits.threadCount : 0)
    attentionParts = layout.reserve(text.headCount * (text.headDim + 2) * parts)
  }
}

extension TextConfig {
  /// Whether rows far behind are out of sight for the last of so many.
  fileprivate func windowSlides(over rows: Int) -> Bool { slidingWindow.map { $0 < rows } ?? false }
}

/// What `linear` needs: the quantized input of one chunk, and a tile of dequantized weights for each thread.
struct LinearRegions: Equatable, Sendable {
  let values: Region<Int8>
  let scales: Region<Float>
  let sums: Region<Int32>
  /// `(threadCount, tileRows, widest input)`; empty where no tensor needs it.
  let tiles: Region<Float>
  let tileFloats: Int

  /// `chunkRows`: the encoder's chunks and the decoder's are no longer than this.
  init(_ layout: inout Layout, _ tensors: [TensorEntry], limits: Limits, chunkRows: Int) {
    var paddedColumns = 0
    var groupCount = 0
    var tileColumns = 0
    for tensor in tensors where tensor.spec.role == .matrix {
      let columns = tensor.spec.shape.columns
      let encoding = tensor.encoding
      if encoding.kind.isQuantized && limits.compute != .f32 {
        let groups = (columns - 1) / encoding.group + 1
        paddedColumns = max(paddedColumns, groups * encoding.group)
        groupCount = max(groupCount, groups)
      } else if encoding.kind != .f32 {
        tileColumns = max(tileColumns, columns)
      }
    }
    values = layout.reserve(chunkRows * paddedColumns)
    scales = layout.reserve(chunkRows * groupCount)
    sums = layout.reserve(chunkRows * groupCount)
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
