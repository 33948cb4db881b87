import PIOFormat

/// The parts of the file that a pass uses, in its order: each is kept, read ahead and dropped as one.
struct WeightUnits: Equatable, Sendable {
  /// Rows of the head that are multiplied together, and where they lie.
  struct HeadBlock: Equatable, Sendable {
    let rows: Range<Int>
    let bytes: Range<Int>
  }

  /// Patch embedding, layers, projector; empty: the model takes no images.
  let vision: [Range<Int>]
  let layers: [Range<Int>]
  let head: [HeadBlock]
  /// Of the first tensor, behind the tokenizer.
  let embeddingStart: Int

  /// A page fault maps up to this much around it, in windows of this size; sections start on it.
  static let window = 64 << 10

  init(_ config: ModelConfig, _ tensors: [TensorEntry], fileByteCount: Int) {
    var starts: [(section: TensorSection, offset: Int)] = []
    for tensor in tensors where starts.last?.section != tensor.spec.section {
      starts.append((tensor.spec.section, tensor.offset))
    }
    var vision: [Range<Int>] = []
    var layers: [Range<Int>] = []
    for (index, start) in starts.enumerated() {
      let end = index + 1 < starts.count ? starts[index + 1].offset : fileByteCount
      switch start.section {
      case .visionEmbedding, .visionLayer, .deepstack, .projector: vision.append(start.offset..<end)
      case .decoderLayer: layers.append(start.offset..<end)
      case .embedding, .head: break
      }
    }
    self.vision = vision
    self.layers = layers
    embeddingStart = tensors[0].offset
    let name = config.text.tiedHead ? "text.embedding" : "text.head.weight"
    let tensor = tensors.first { $0.spec.name == name }!
    head = Self.blocks(of: tensor, largestLayer: layers.map(\.count).max() ?? 0)
  }

  /// Some MiB a block, less for small models: the read-ahead should be long, the window small.
  private static func blocks(of head: TensorEntry, largestLayer: Int) -> [HeadBlock] {
    let rows = head.spec.shape.rows
    let panels = (rows + 15) / 16
    let panelBytes = max(1, head.byteCount / panels)
    let target = min(8 << 20, max(256 << 10, largestLayer / 2))
    let panelsPerBlock = max(1, target / panelBytes)
    return stride(from: 0, to: panels, by: panelsPerBlock).map { first in
      let last = min(panels, first + panelsPerBlock)
      // Float kinds have no padding rows: their last panel is shorter.
      let end = last == panels ? head.byteCount : last * panelBytes
      return HeadBlock(
        rows: first * 16..<min(rows, last * 16),
        bytes: head.offset + first * panelBytes..<head.offset + end)
    }
  }

  /// All of them: vision, layers, head.
  var all: [Range<Int>] { vision + layers + head.map(\.bytes) }
  var visionCount: Int { vision.count }
  var decoderCount: Int { layers.count + head.count }

  /// Where units, and what no pass touches, begin and end.
  var boundaries: [Int] {
    func floor(_ offset: Int) -> Int { offset / Self.window * Self.window }
    let ends = [vision.last?.upperBound, layers.last?.upperBound].compactMap { $0 }
    let starts = [0] + (vision + layers).map(\.lowerBound) + head.map { floor($0.bytes.lowerBound) }
    return Set(starts + ends + [embeddingStart]).sorted()
  }

  /// What can be dropped with a unit: its windows, but not a last one that is the next unit's first, where a block of
  /// the head ends inside it.
  static func droppable(_ range: Range<Int>, isFollowedByHead: Bool) -> Range<Int> {
    func floor(_ offset: Int) -> Int { offset / window * window }
    let start = floor(range.lowerBound)
    return start..<max(start, isFollowedByHead ? floor(range.upperBound) : range.upperBound)
  }

  /// What `range` can take in memory: whole windows.
  static func residentByteCount(_ range: Range<Int>) -> Int {
    (range.upperBound + window - 1) / window * window - range.lowerBound / window * window
  }
}

/// Which units stay in memory and which pass through.
///
/// Every unit of the decoder is used once a token, in the same order: of a cyclic scan that does not fit, a fixed part
/// is kept and the rest read each time. Least-recently-used, what the page cache does, would read everything again.
struct Residency: Equatable, Sendable {
  let units: WeightUnits
  /// The file is mapped and left to the kernel: nothing is dropped, nothing read ahead.
  let isPlain: Bool
  let streamsVision: Bool
  /// Of each layer and head block.
  let streams: [Bool]
  /// Decoder units from this one on are dropped while an image is encoded.
  let keptWhileEncoding: Int

  /// Bytes of the decoder's units that stay.
  let residentBytes: Int
  /// Most bytes of streamed decoder units in memory at a time: the one in use and the one read ahead.
  let windowBytes: Int
  /// Most bytes of the vision tower in memory at a time.
  let visionBytes: Int
  /// Bytes of decoder units in memory while an image is encoded.
  let residentWhileEncodingBytes: Int

  /// Bytes that each token reads anew.
  var streamedBytes: Int {
    zip(decoderUnits, streams).reduce(0) { $0 + ($1.1 ? $1.0.count : 0) }
  }

  var decoderUnits: [Range<Int>] { units.layers + units.head.map(\.bytes) }

  /// Bytes that a cap leaves for weights in each phase, below 0 where it leaves none.
  struct Room {
    /// While the decoder runs.
    let decoder: Int
    /// While an image is encoded.
    let encoder: Int
    /// For the decoder's weights, while an image is decoded.
    let image: Int
  }

  /// What stays of the decoder's resident units while an image is decoded and encoded.
  private enum KeptWhileEncoding {
    case nothing, everything
    /// As many of the first as there is room for beside the tower.
    case fitting(Room)
  }

  /// Everything stays.
  static func plain(_ units: WeightUnits) -> Residency {
    let sizes = (units.layers + units.head.map(\.bytes)).map(WeightUnits.residentByteCount)
    return Residency(
      units: units, isPlain: true, streamsVision: false, streamedCount: 0, sizes: sizes,
      usesHeadInside: false, kept: .everything)
  }

  /// The most that fits.
  ///
  /// - Parameters:
  ///   - room: nil: no limit.
  ///   - usesHeadInside: a pruning stage reads the head while a layer is in use.
  ///   - isConversation: images may come when the decoder has run already.
  ///   - streamsAll: nothing of the decoder stays.
  init(
    fitting units: WeightUnits, in room: Room?, usesHeadInside: Bool, isConversation: Bool,
    streamsAll: Bool
  ) {
    let sizes = (units.layers + units.head.map(\.bytes)).map(WeightUnits.residentByteCount)
    let visionTotal = units.vision.reduce(0) { $0 + WeightUnits.residentByteCount($1) }
    let streamsVision = streamsAll || room.map { visionTotal > $0.encoder } ?? false
    let kept: KeptWhileEncoding =
      isConversation ? room.map { .fitting($0) } ?? .everything : .nothing
    func candidate(_ streamedCount: Int, _ streamsVision: Bool) -> Residency {
      Residency(
        units: units, isPlain: false, streamsVision: streamsVision, streamedCount: streamedCount,
        sizes: sizes, usesHeadInside: usesHeadInside, kept: kept)
    }
    var best = candidate(streamsAll ? sizes.count : 0, streamsVision)
    if let room, !streamsAll {
      for count in 0...sizes.count {
        best = candidate(count, streamsVision)
        if best.residentBytes + best.windowBytes <= room.decoder { break }
      }
    }
    // A conversation that would have to drop layers for an image streams the tower first.
    if isConversation, !streamsVision, best.keptWhileEncoding < sizes.count {
      best = candidate(best.streams.reduce(0) { $0 + ($1 ? 1 : 0) }, true)
    }
    self = best
  }

  /// `sizes`: of the decoder's units.
  private init(
    units: WeightUnits, isPlain: Bool, streamsVision: Bool, streamedCount: Int, sizes: [Int],
    usesHeadInside: Bool, kept: KeptWhileEncoding
  ) {
    self.units = units
    self.isPlain = isPlain
    self.streamsVision = streamsVision
    // Spread evenly: while kept units are computed, the next streamed one is read.
    var streams = [Bool](repeating: false, count: sizes.count)
    for index in 0..<streamedCount {
      streams[(2 * index + 1) * sizes.count / (2 * streamedCount)] = true
    }
    self.streams = streams
    let resident = zip(sizes, streams).map { $1 ? 0 : $0 }
    residentBytes = resident.reduce(0, +)
    var window = largestPair(sizes.indices.filter { streams[$0] }.map { sizes[$0] }, cyclic: true)
    if usesHeadInside {
      let head = units.layers.count..<sizes.count
      window += largestPair(head.filter { streams[$0] }.map { sizes[$0] }, cyclic: false)
    }
    windowBytes = window
    let vision = units.vision.map(WeightUnits.residentByteCount)
    visionBytes = streamsVision ? largestPair(vision, cyclic: false) : vision.reduce(0, +)
    switch kept {
    case .nothing: (keptWhileEncoding, residentWhileEncodingBytes) = (0, 0)
    case .everything:
      (keptWhileEncoding, residentWhileEncodingBytes) = (sizes.count, residentBytes)
    case .fitting(let room):
      (keptWhileEncoding, residentWhileEncodingBytes) = longestPrefix(
        of: resident, within: min(room.encoder - visionBytes, room.image))
    }
  }
}

/// How many of the first sizes fit together, and what they take.
private func longestPrefix(of sizes: [Int], within room: Int) -> (count: Int, bytes: Int) {
  var (count, bytes) = (0, 0)
  while count < sizes.count, bytes + sizes[count] <= room {
    bytes += sizes[count]
    count += 1
  }
  return (count, bytes)
}

/// The most that two neighbours take together.
private func largestPair(_ sizes: [Int], cyclic: Bool) -> Int {
  guard sizes.count > 1 else { return sizes.first ?? 0 }
  var largest = cyclic ? sizes.first! + sizes.last! : 0
  for index in 1..<sizes.count { largest = max(largest, sizes[index - 1] + sizes[index]) }
  return largest
}
