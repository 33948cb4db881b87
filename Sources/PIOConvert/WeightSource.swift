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
  let offset: Int
  let byteCount: Int
  var order = RowOrder.asStored
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

  /// `shape`: as our file has it; rows times columns are the source's.
  init(_ source: WeightSource, shape: TensorShape) {
    self.source = source
    self.shape = shape
    rowByteCount = source.type.rowByteCount(shape.columns)
    raw = .allocate(byteCount: min(16, shape.rows) * rowByteCount, alignment: 64)
  }

  deinit { raw.deallocate() }

  /// Row `index` of those read last, as the source stores it.
  func bytes(_ index: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(raw.baseAddress! + index * rowByteCount)
  }

  /// Reads `count` ≤ 16 rows from `firstRow` on.
  func read(firstRow: Int, _ count: Int) throws(ConvertError) {
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
    dequantize(source.type, bytes(index), into: out, count: shape.columns)
    // A bias is one row of ours, whose numbers have the order of its matrix's rows.
    if shape.rows == 1, source.order != .asStored {
      let stored = (0..<shape.columns).map { out[$0] }
      for column in 0..<shape.columns { out[column] = stored[source.order.source(column)] }
    }
  }
}
