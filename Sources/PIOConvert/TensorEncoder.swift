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

  /// Appends the tensor to `writer`; after every chunk `advance` hears how many bytes of the source
  /// are done, and ends the conversion by returning false.
  func encode(
    _ tensor: TensorEntry, from source: WeightSource, into writer: inout ModelWriter,
    advance: (_ byteCount: Int) -> Bool
  ) throws(ConvertError) -> Fidelity {
    let chunk = Chunk(tensor, source, pool)
    let blocks = chunk.blockCount
    var fidelity = Fidelity()
    for first in stride(from: 0, to: blocks, by: chunk.capacity) {
      let end = min(blocks, first + chunk.capacity)
      fidelity = try chunk.encode(first..<end, adding: fidelity)
      try chunk.write(first..<end, to: &writer)
      let done = source.byteCount * end / blocks - source.byteCount * first / blocks
      guard advance(done) else { throw .cancelled }
    }
    return fidelity
  }
}

/// The blocks of a tensor, 16 rows each, that are encoded before they are written.
private final class Chunk {
  let blockCount: Int
  /// Blocks that are encoded at once.
  let capacity: Int
  private let pool: ThreadPool
  private let rows: Int
  private let layout: TensorLayout
  private let blockByteCount: Int
  private let jobs: [BlockJob]
  private var results: [BlockResult]
  private let out: UnsafeMutableRawBufferPointer

  private static let byteLimit = 4 << 20
  private static let scratchLimit = 24 << 20

  init(_ tensor: TensorEntry, _ source: WeightSource, _ pool: ThreadPool) {
    let (shape, encoding) = (tensor.spec.shape, tensor.encoding)
    self.pool = pool
    (rows, layout) = (shape.rows, encoding.layout)
    blockByteCount = byteCount(encoding, TensorShape(rows: 16, columns: shape.columns))!
    blockCount = (shape.rows + 15) / 16
    let scratch = 16 * shape.columns * 8
    let workers = max(1, min(pool.threadCount, blockCount, Self.scratchLimit / scratch))
    capacity = max(workers, min(blockCount, Self.byteLimit / blockByteCount))
    jobs = (0..<workers).map { _ in
      BlockJob(source: source, encoding: encoding, shape: shape)
    }
    results = [BlockResult](repeating: BlockResult(), count: capacity)
    out = .allocate(byteCount: min(capacity, blockCount) * blockByteCount, alignment: 64)
  }

  deinit { out.deallocate() }

  /// `sum`, with what the blocks add: in their order, whoever encodes them.
  func encode(_ blocks: Range<Int>, adding sum: Fidelity) throws(ConvertError) -> Fidelity {
    let (jobs, out, size) = (jobs, out, blockByteCount)
    results.withUnsafeMutableBufferPointer { results in
      pool.run(jobs.count) { worker, _ in
        for i in stride(from: worker, to: blocks.count, by: jobs.count) {
          results[i] = jobs[worker].run(blocks.lowerBound + i, into: out.baseAddress! + i * size)
        }
      }
    }
    var sum = sum
    for result in results[..<blocks.count] {
      if let error = result.error { throw error }
      sum += result.fidelity
    }
    return sum
  }

  /// Appends the blocks encoded last: their rows, or all of them where the layout is in blocks.
  func write(_ blocks: Range<Int>, to writer: inout ModelWriter) throws(ConvertError) {
    let all = blocks.count * 16
    let count = layout == .blocks16 ? all : min(all, rows - blocks.lowerBound * 16)
    let bytes = UnsafeRawBufferPointer(rebasing: out[..<(count * (blockByteCount / 16))])
    do throws(ModelFileError) { try writer.append(bytes) } catch { throw .model(error) }
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
