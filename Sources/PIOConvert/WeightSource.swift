import PIOFormat

/// The order of a source tensor's rows, compared with ours.
enum RowOrder: Equatable, Sendable {
  case asStored
  /// Within a head of `headDim` rows the source alternates between the two halves that rotate
  /// together: its row 2i is our row i, its row 2i + 1 our row i + headDim/2.
  case alternating(headDim: Int)

  /// The source's row for ours.
  func source(_ row: Int) -> Int {
    guard case .alternating(let headDim) = self else { return row }
    let (head, inHead) = (row / headDim, row % headDim)
    let half = headDim / 2
    return head * headDim + 2 * (inHead % half) + inHead / half
  }
}

/// One tensor of a source, wherever it lies.
struct WeightSource: Sendable {
  let name: String
  let file: SourceFile
  let type: WeightType
  /// Rows first; all but the first are the columns.
  let shape: [Int]
  /// From the start of the file.
  private(set) var offset: Int
  private(set) var byteCount: Int
  var order = RowOrder.asStored
  /// Frames of a convolution in time that are added up; a row has as many times the columns.
  private(set) var frames = 1
  /// Where another tensor of the same shape and type lies in the same file, which is added to this one.
  private(set) var addedOffset: Int?

  mutating func add(_ other: WeightSource) {
    addedOffset = other.offset
    byteCount += other.byteCount
  }

  /// What `part` says of it.
  func taking(_ part: SourcePart) -> WeightSource {
    var taken = self
    switch part {
    case .whole: break
    case .rows(let index, let count):
      taken.byteCount = byteCount / count
      taken.offset = offset + index * taken.byteCount
    case .summedFrames(let count): taken.frames = count
    }
    return taken
  }
}

extension WeightSource {
  /// Nil where the checkpoint's type is none of a weight's.
  init?(_ location: Checkpoint.Location, of checkpoint: Checkpoint) {
    let tensor = location.tensor
    switch tensor.type {
    case .f32: type = .f32
    case .f16: type = .f16
    case .bf16: type = .bf16
    case .other: return nil
    }
    (name, shape, offset, byteCount) = (tensor.name, tensor.shape, tensor.offset, tensor.byteCount)
    file = checkpoint.files[location.file]
  }
}

/// Reads up to 16 rows of a tensor in our order; one for each worker, with its scratch.
final class RowReader {
  let source: WeightSource
  private let shape: TensorShape
  private let rowByteCount: Int
  private let raw: UnsafeMutableRawBufferPointer
  /// A row with its frames apart; empty where it has one.
  private let apart: UnsafeMutableBufferPointer<Float>
  /// Rows of the tensor that is added; empty where there is none.
  private let added: UnsafeMutableRawBufferPointer

  /// `shape`: as our file has it; rows times columns are the source's.
  init(_ source: WeightSource, shape: TensorShape) {
    self.source = source
    self.shape = shape
    rowByteCount = source.type.rowByteCount(shape.columns * source.frames)
    let isSum = source.frames > 1 || source.addedOffset != nil
    apart = .allocate(capacity: isSum ? shape.columns * source.frames : 0)
    added = .allocate(
      byteCount: source.addedOffset == nil ? 0 : min(16, shape.rows) * rowByteCount, alignment: 64)
    raw = .allocate(byteCount: min(16, shape.rows) * rowByteCount, alignment: 64)
  }

  deinit {
    raw.deallocate()
    apart.deallocate()
    added.deallocate()
  }

  /// Row `index` of those read last, as the source stores it.
  func bytes(_ index: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(raw.baseAddress! + index * rowByteCount)
  }

  /// Reads `count` ≤ 16 rows from `firstRow` on.
  func read(firstRow: Int, _ count: Int) throws(ConvertError) {
    if let offset = source.addedOffset {
      let bytes = UnsafeMutableRawBufferPointer(rebasing: added[..<(count * rowByteCount)])
      try source.file.read(into: bytes, at: offset + firstRow * rowByteCount)
    }
    if source.order == .asStored || shape.rows == 1 {
      let bytes = UnsafeMutableRawBufferPointer(rebasing: raw[..<(count * rowByteCount)])
      return try source.file.read(into: bytes, at: source.offset + firstRow * rowByteCount)
    }
    for index in 0..<count {
      let start = index * rowByteCount
      try source.file.read(
        into: UnsafeMutableRawBufferPointer(rebasing: raw[start..<start + rowByteCount]),
        at: source.offset + source.order.source(firstRow + index) * rowByteCount)
    }
  }

  /// Row `index` of those read last in f32; `out` takes the columns.
  func row(_ index: Int, into out: UnsafeMutablePointer<Float>) {
    guard source.frames == 1 else { return sumFrames(index, into: out) }
    dequantize(source.type, bytes(index), into: out, count: shape.columns)
    if source.addedOffset != nil {
      let row = UnsafeRawPointer(added.baseAddress! + index * rowByteCount)
      dequantize(source.type, row, into: apart.baseAddress!, count: shape.columns)
      for column in 0..<shape.columns { out[column] += apart[column] }
    }
    // A bias is one row of ours, whose numbers have the order of its matrix's rows.
    if shape.rows == 1, source.order != .asStored {
      let stored = (0..<shape.columns).map { out[$0] }
      for column in 0..<shape.columns { out[column] = stored[source.order.source(column)] }
    }
  }

  /// Channels, in each frames, in each a patch's pixels: the frames are added up.
  private func sumFrames(_ index: Int, into out: UnsafeMutablePointer<Float>) {
    let frames = source.frames
    dequantize(source.type, bytes(index), into: apart.baseAddress!, count: apart.count)
    let area = shape.columns / 3
    for channel in 0..<3 {
      for pixel in 0..<area {
        var sum: Float = 0
        for frame in 0..<frames { sum += apart[(channel * frames + frame) * area + pixel] }
        out[channel * area + pixel] = sum
      }
    }
  }
}
