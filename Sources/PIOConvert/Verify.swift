import CPIOKernels
import PIOFormat
import PIOThreads

/// How far a file's numbers are from those of a source.
public struct VerifyReport: Sendable, Equatable {
  public struct Tensor: Sendable, Equatable {
    public let entry: TensorEntry
    /// Σw² of the source and Σ(w - ŵ)², ŵ being what the file says.
    public let signal: Double
    public let noise: Double
    /// max |w - ŵ|
    public let largestError: Double

    /// Nil where the numbers are equal, or all zero.
    public var snrDecibels: Double? { decibels(signal, noise) }
  }
  /// In file order.
  public let tensors: [Tensor]
  /// Whether the file's tokenizer is the source's, byte for byte.
  public let hasSameTokenizer: Bool
}

/// Reads a whole file again, checks every checksum, and holds every number against a source: the
/// one it was made from, or another one of the same model.
///
/// `reference`: a Hugging Face folder or a GGUF file; `projector`: the GGUF file of its vision
/// encoder. Memory: as `convert`. `progress` hears the bytes of the file that are done.
public func verify(
  _ path: String, against reference: String, projector: String? = nil,
  threadCount: Int = defaultThreadCount(),
  progress: (_ doneBytes: Int, _ totalBytes: Int) -> Bool = { _, _ in true }
) throws(ConvertError) -> VerifyReport {
  var options = ConvertOptions(
    source: reference, target: path, rules: EncodingRules(weights: nil), threadCount: threadCount)
  options.projector = projector
  // The template is no part of what is compared, and must not keep a source from being read.
  options.chatTemplate = "plain"
  let source = try ModelSource(options)
  let file = try SourceFile(path: path)
  let opened = try openAndCheck(path, source)
  var comparison = Comparison(
    file: file, tensors: opened.tensors, source: source, pool: try makePool(threadCount))
  return VerifyReport(
    tensors: try comparison.run(progress), hasSameTokenizer: opened.hasSameTokenizer)
}

/// Every checksum, then whether the file has the source's tensors at all.
private func openAndCheck(
  _ path: String, _ source: ModelSource
) throws(ConvertError) -> (tensors: [TensorEntry], hasSameTokenizer: Bool) {
  do throws(ModelFileError) {
    let model = try ModelFile(path: path)
    try model.verify()
    let (tensors, specs) = (model.tensors, source.specs)
    for (entry, spec) in zip(tensors, specs) where entry.spec != spec {
      throw .tensor(
        name: spec.name, field: "shape or position", needed: "\(spec.shape)",
        found: "\(entry.spec.name) \(entry.spec.shape)")
    }
    guard tensors.count == specs.count else {
      throw .tensorCount(needed: specs.count, found: tensors.count)
    }
    return (tensors, model.tokenizerSection.elementsEqual(source.tokenizer))
  } catch {
    throw .model(error)
  }
}

/// Walks file and source side by side, 16 rows at a time, all cores at work.
private struct Comparison {
  let file: SourceFile
  let tensors: [TensorEntry]
  let source: ModelSource
  let pool: ThreadPool

  mutating func run(
    _ progress: (_ doneBytes: Int, _ totalBytes: Int) -> Bool
  ) throws(ConvertError) -> [VerifyReport.Tensor] {
    let total = tensors.reduce(0) { $0 + $1.byteCount }
    var done = 0
    var reports: [VerifyReport.Tensor] = []
    for (entry, weights) in zip(tensors, source.weights) {
      var error = Deviation()
      if let weights {
        error = try compare(entry, weights)
      } else {
        let rows = StoredRows(file, entry)
        try rows.read(0)
        rows.row(0)
        for (i, frequency) in source.frequencies.enumerated() { error.add(frequency, rows.out[i]) }
      }
      reports.append(
        VerifyReport.Tensor(
          entry: entry, signal: error.signal, noise: error.noise, largestError: error.largest))
      done += entry.byteCount
      guard progress(done, total) else { throw .cancelled }
    }
    return reports
  }

  private func compare(
    _ entry: TensorEntry, _ weights: WeightSource
  ) throws(ConvertError) -> Deviation {
    let shape = entry.spec.shape
    let blocks = (shape.rows + 15) / 16
    let workers = max(1, min(pool.threadCount, blocks))
    let jobs = (0..<workers).map { _ in ComparisonJob(file, entry, weights) }
    pool.run(workers) { worker, _ in
      for block in stride(from: worker, to: blocks, by: workers) { jobs[worker].run(block) }
    }
    var sum = Deviation()
    for job in jobs {
      if let error = job.error { throw error }
      sum += job.deviation
    }
    return sum
  }
}

private struct Deviation {
  var signal = 0.0
  var noise = 0.0
  var largest = 0.0

  mutating func add(_ wanted: Float, _ found: Float) {
    let difference = abs(Double(wanted) - Double(found))
    signal += Double(wanted) * Double(wanted)
    noise += difference * difference
    // NaN is larger than anything.
    if !(difference <= largest) { largest = difference }
  }

  static func += (total: inout Deviation, part: Deviation) {
    total.signal += part.signal
    total.noise += part.noise
    if !(part.largest <= total.largest) { total.largest = part.largest }
  }
}

/// One worker's share of one tensor.
private final class ComparisonJob {
  private let reader: RowReader
  private let stored: StoredRows
  private let wanted: UnsafeMutablePointer<Float>
  private let shape: TensorShape
  private(set) var deviation = Deviation()
  private(set) var error: ConvertError?

  init(_ file: SourceFile, _ entry: TensorEntry, _ weights: WeightSource) {
    shape = entry.spec.shape
    reader = RowReader(weights, shape: shape)
    stored = StoredRows(file, entry)
    wanted = .allocate(capacity: shape.columns)
  }

  deinit { wanted.deallocate() }

  func run(_ block: Int) {
    guard error == nil else { return }
    let count = min(16, shape.rows - 16 * block)
    do throws(ConvertError) {
      try reader.read(firstRow: 16 * block, count)
      try stored.read(block)
    } catch {
      self.error = error
      return
    }
    for row in 0..<count {
      reader.row(row, into: wanted)
      stored.row(row)
      for column in 0..<shape.columns { deviation.add(wanted[column], stored.out[column]) }
    }
  }
}

/// Rows of a tensor of our file, 16 at a time, as the runtime would read them.
private final class StoredRows {
  /// One row, (columns).
  let out: UnsafeMutablePointer<Float>
  private let file: SourceFile
  private let entry: TensorEntry
  private let bytes: UnsafeMutableRawBufferPointer

  init(_ file: SourceFile, _ entry: TensorEntry) {
    self.file = file
    self.entry = entry
    let shape = entry.spec.shape
    out = .allocate(capacity: shape.columns)
    out.initialize(repeating: 0, count: shape.columns)
    bytes = .allocate(byteCount: Self.blockByteCount(entry), alignment: 64)
  }

  deinit {
    out.deallocate()
    bytes.deallocate()
  }

  private static func blockByteCount(_ entry: TensorEntry) -> Int {
    let rows = entry.encoding.layout == .blocks16 ? 16 : min(16, entry.spec.shape.rows)
    return byteCount(
      entry.encoding, TensorShape(rows: rows, columns: entry.spec.shape.columns))!
  }

  func read(_ block: Int) throws(ConvertError) {
    let size = byteCount(entry.encoding, TensorShape(rows: 16, columns: entry.spec.shape.columns))!
    let start = block * size
    let count = min(bytes.count, entry.byteCount - start)
    try file.read(
      into: UnsafeMutableRawBufferPointer(rebasing: bytes[..<count]), at: entry.offset + start)
  }

  /// Row `index` of those read last, into `out`.
  func row(_ index: Int) {
    let columns = entry.spec.shape.columns
    let group = entry.encoding.group
    switch (entry.encoding.layout, entry.encoding.kind) {
    case (.blocks16, _):
      var matrix = pio_matrix(
        blocks: bytes.baseAddress!.assumingMemoryBound(to: UInt8.self), rows: 16, cols: columns,
        group: UInt32(group), quant: UInt32(entry.encoding.kind.rawValue))
      pio_dequantize_rows(out, columns, &matrix, index, index + 1)
    case (_, .f32): dequantize(.f32, row(index, of: 4 * columns), into: out, count: columns)
    case (_, .f16): dequantize(.f16, row(index, of: 2 * columns), into: out, count: columns)
    case (_, .bf16): dequantize(.bf16, row(index, of: 2 * columns), into: out, count: columns)
    default:
      let groups = (columns + group - 1) / group
      let codes = row(index, of: groups * (group + 2))
      for column in 0..<columns {
        let scale = codes.loadUnaligned(
          fromByteOffset: groups * group + 2 * (column / group), as: UInt16.self)
        let code = codes.load(fromByteOffset: column, as: UInt8.self)
        out[column] = pio_f16_to_f32(scale) * Float(Int(code) - 128)
      }
    }
  }

  private func row(_ index: Int, of byteCount: Int) -> UnsafeRawPointer {
    UnsafeRawPointer(bytes.baseAddress! + index * byteCount)
  }
}
