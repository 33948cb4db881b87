import CPIOKernels
import PIOFormat
import PIOThreads

/// Streams one tensor from its source to its bytes in the file, all cores at work.
///
/// Rows are read, converted and packed 16 at a time, each worker with its own scratch; a chunk of
/// some megabytes is finished before the next one begins. So memory does not grow with the tensor,
/// and the bytes do not depend on the number of workers.
struct TensorEncoder {
  let pool: ThreadPool

  private static let chunkLimit = 4 << 20
  private static let scratchLimit = 24 << 20

  /// Appends the tensor to `writer`; after every chunk `advance` hears how many bytes of the source
  /// are done, and ends the conversion by returning false.
  func encode(
    _ tensor: TensorEntry, from source: WeightSource, into writer: inout ModelWriter,
    advance: (_ byteCount: Int) -> Bool
  ) throws(ConvertError) -> Fidelity {
    let (shape, encoding) = (tensor.spec.shape, tensor.encoding)
    let rowBytes = byteCount(encoding, TensorShape(rows: 16, columns: shape.columns))! / 16
    let blockRows = (shape.rows + 15) / 16
    let scratch = 16 * shape.columns * 8
    let workers = max(1, min(pool.threadCount, blockRows, Self.scratchLimit / scratch))
    let chunkBlocks = max(workers, min(blockRows, Self.chunkLimit / (16 * rowBytes)))
    let jobs = (0..<workers).map { _ in
      BlockJob(source: source, encoding: encoding, shape: shape)
    }
    let out = UnsafeMutableRawBufferPointer.allocate(
      byteCount: min(chunkBlocks, blockRows) * 16 * rowBytes, alignment: 64)
    defer { out.deallocate() }
    var results = [BlockResult](repeating: BlockResult(), count: chunkBlocks)
    var fidelity = Fidelity()
    for first in stride(from: 0, to: blockRows, by: chunkBlocks) {
      let count = min(chunkBlocks, blockRows - first)
      results.withUnsafeMutableBufferPointer { results in
        pool.run(workers) { worker, _ in
          for block in stride(from: worker, to: count, by: workers) {
            results[block] = jobs[worker].run(
              first + block, into: out.baseAddress! + block * 16 * rowBytes)
          }
        }
      }
      for result in results[..<count] {
        if let error = result.error { throw error }
        fidelity += result.fidelity
      }
      let rows =
        encoding.layout == .blocks16 ? count * 16 : min(count * 16, shape.rows - first * 16)
      do throws(ModelFileError) {
        try writer.append(UnsafeRawBufferPointer(rebasing: out[..<(rows * rowBytes)]))
      } catch {
        throw .model(error)
      }
      let done = source.byteCount * (first + count) / blockRows
      let before = source.byteCount * first / blockRows
      guard advance(done - before) else { throw .cancelled }
    }
    return fidelity
  }
}

private struct BlockResult: Sendable {
  var fidelity = Fidelity()
  var error: ConvertError?
}

/// One worker's reading and encoding of one tensor.
private final class BlockJob {
  private let reader: RowReader
  private let shape: TensorShape
  private let encoder: BlockEncoder
  private let codes: BlockCodes?

  init(source: WeightSource, encoding: TensorEncoding, shape: TensorShape) {
    self.shape = shape
    reader = RowReader(source, shape: shape)
    encoder = BlockEncoder(encoding: encoding, columns: shape.columns)
    codes = BlockCodes(source.type, encoding)
  }

  /// Encodes rows `16 · block` and on.
  func run(_ block: Int, into out: UnsafeMutableRawPointer) -> BlockResult {
    let count = min(16, shape.rows - 16 * block)
    do throws(ConvertError) {
      try reader.read(firstRow: 16 * block, count)
    } catch {
      return BlockResult(error: error)
    }
    for row in 0..<count { reader.row(row, into: encoder.rows + row * encoder.stride) }
    do throws(WeightProblem) {
      let given = codes.map { (codes: $0, reader: reader) }
      return BlockResult(fidelity: try encoder.encode(count, from: given, into: out))
    } catch {
      return BlockResult(error: publicError(error, firstRow: 16 * block))
    }
  }

  private func publicError(_ problem: WeightProblem, firstRow: Int) -> ConvertError {
    switch problem {
    case .notFinite(let row, let column):
      .notFinite(tensor: reader.source.name, row: firstRow + row, column: column)
    case .outOfRange(let row, let column, let value):
      .outOfRange(
        tensor: reader.source.name, row: firstRow + row, column: column, value: value,
        kind: encoder.encoding.kind.name)
    }
  }
}
