import CPIOKernels
import PIOFormat

extension Embedding {
  /// Row `id` of the table in f32. `out` is `(dim)`.
  func gather(_ id: Int, into out: UnsafeMutablePointer<Float>, _ kernels: pio_kernels) {
    precondition(id >= 0 && id < rows, "gather: token out of range")
    switch (encoding.layout, encoding.kind) {
    case (.rows, .f32):
      out.update(from: data.assumingMemoryBound(to: Float.self) + id * dim, count: dim)
    case (.rows, .f16):
      kernels.f16_to_f32(out, data.assumingMemoryBound(to: UInt16.self) + id * dim, dim)
    case (.rows, .bf16):
      kernels.bf16_to_f32(out, data.assumingMemoryBound(to: UInt16.self) + id * dim, dim)
    case (.rows, _): gatherQuantizedRow(id, into: out)
    case (.blocks16, _):
      var matrix = pio_matrix(
        blocks: data.assumingMemoryBound(to: UInt8.self), rows: rows, cols: dim,
        group: UInt32(encoding.group), quant: UInt32(encoding.kind.rawValue))
      pio_dequantize_rows(out, dim, &matrix, id, id + 1)
    }
  }

  /// int8 by rows: the codes, padded to the group, then the row's f16 scales.
  private func gatherQuantizedRow(_ id: Int, into out: UnsafeMutablePointer<Float>) {
    let groups = (dim + encoding.group - 1) / encoding.group
    let row = data + id * groups * (encoding.group + 2)
    let codes = row.assumingMemoryBound(to: UInt8.self)
    let scales = (row + groups * encoding.group).assumingMemoryBound(to: UInt16.self)
    for column in 0..<dim {
      let scale = pio_f16_to_f32(scales[column / encoding.group])
      out[column] = scale * Float(Int(codes[column]) - 128)
    }
  }
}
