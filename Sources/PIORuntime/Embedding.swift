import CPIOKernels
import PIOFormat

extension Embedding {
  /// Bytes that `gather` reads for one row: the row, or the panel of 16 that it lies in.
  static func rowByteCount(_ tensors: [TensorEntry]) -> Int {
    let table = tensors.first { $0.spec.name == "text.embedding" }!
    let shape = TensorShape(
      rows: table.encoding.layout == .rows ? 1 : 16, columns: table.spec.shape.columns)
    return byteCount(table.encoding, shape)!
  }

  /// Row `id` of the table in f32. `out` is `(dim)`.
  ///
  /// The row is read from the file into `buffer`: touching it where it is mapped would bring the pages around it in.
  func gather(
    _ id: Int, into out: UnsafeMutablePointer<Float>, buffer: UnsafeMutableBufferPointer<UInt8>,
    _ pages: FilePages, _ kernels: pio_kernels
  ) throws(RuntimeError) {
    precondition(id >= 0 && id < rows, "gather: token out of range")
    let isPanel = encoding.layout == .blocks16
    let failure = pages.read(
      into: UnsafeMutableRawBufferPointer(buffer),
      at: offset + (isPanel ? id / 16 : id) * buffer.count)
    guard failure == 0 else { throw .cannotReadWeights(errno: failure) }
    let row = UnsafeRawPointer(buffer.baseAddress!)
    switch (encoding.layout, encoding.kind) {
    case (.rows, .f32): out.update(from: row.assumingMemoryBound(to: Float.self), count: dim)
    case (.rows, .f16): kernels.f16_to_f32(out, row.assumingMemoryBound(to: UInt16.self), dim)
    case (.rows, .bf16): kernels.bf16_to_f32(out, row.assumingMemoryBound(to: UInt16.self), dim)
    case (.rows, _): dequantizeRow(row, into: out)
    case (.blocks16, _):
      var matrix = pio_matrix(
        blocks: row.assumingMemoryBound(to: UInt8.self), rows: 16, cols: dim,
        group: UInt32(encoding.group), quant: UInt32(encoding.kind.rawValue))
      pio_dequantize_rows(out, dim, &matrix, id % 16, id % 16 + 1)
    }
  }

  /// int8 by rows: the codes, padded to the group, then the row's f16 scales.
  private func dequantizeRow(_ row: UnsafeRawPointer, into out: UnsafeMutablePointer<Float>) {
    let groups = (dim + encoding.group - 1) / encoding.group
    let codes = row.assumingMemoryBound(to: UInt8.self)
    let scales = (row + groups * encoding.group).assumingMemoryBound(to: UInt16.self)
    for column in 0..<dim {
      let scale = pio_f16_to_f32(scales[column / encoding.group])
      out[column] = scale * Float(Int(codes[column]) - 128)
    }
  }
}
