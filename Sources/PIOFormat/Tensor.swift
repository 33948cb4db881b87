/// How the numbers of a tensor are stored.
public enum TensorKind: UInt8, Sendable, CaseIterable {
  case f32 = 0
  case f16 = 1
  case bf16 = 2
  /// Symmetric, one f16 scale a group: `w = scale * (code - 128)`, codes 0…255.
  case int8 = 3
  /// Symmetric, one f16 scale a group: `w = scale * (code - 8)`, codes 0…15.
  case int4 = 4
  /// Affine, an f16 scale and minimum a group: `w = scale * code + minimum`, codes 0…15.
  case int4Affine = 5

  public var isQuantized: Bool { rawValue >= TensorKind.int8.rawValue }
}

/// Where the numbers of a tensor lie.
public enum TensorLayout: UInt8, Sendable, CaseIterable {
  /// Row after row. An int8 row is its codes (columns padded to the group), then its f16 scales.
  case rows = 0
  /// What the kernels read: blocks of 16 rows × one group of columns, `formats/PIOM.md` §7.
  case blocks16 = 1
}

/// Kind, layout and group size: with the shape, all that decides a tensor's byte count.
public struct TensorEncoding: Equatable, Hashable, Sendable {
  public let kind: TensorKind
  public let layout: TensorLayout
  /// Columns that share one scale: 32, 64 or 128; 0 for the float kinds.
  public let group: Int

  public init(kind: TensorKind, layout: TensorLayout, group: Int) {
    self.kind = kind
    self.layout = layout
    self.group = group
  }

  public static let f32 = TensorEncoding(kind: .f32, layout: .rows, group: 0)
}

/// Rows and columns; a vector of n is `(1, n)`.
public struct TensorShape: Equatable, Hashable, Sendable {
  public let rows: Int
  public let columns: Int

  public init(rows: Int, columns: Int) {
    self.rows = rows
    self.columns = columns
  }
}

/// The bytes a tensor takes, or nil where the encoding does not exist or the product overflows.
///
/// `blocks16`: ⌈rows/16⌉ · ⌈columns/group⌉ blocks of 16 rows: the codes (16·group bytes for int8,
/// half of that for int4), then 16 f16 scales, then for the affine kind 16 f16 minima.
public func byteCount(_ encoding: TensorEncoding, _ shape: TensorShape) -> Int? {
  guard shape.rows > 0, shape.columns > 0 else { return nil }
  switch (encoding.layout, encoding.kind) {
  case (.rows, .f32): return product(shape.rows, shape.columns, encoding.group == 0 ? 4 : 0)
  case (.rows, .f16), (.rows, .bf16):
    return product(shape.rows, shape.columns, encoding.group == 0 ? 2 : 0)
  case (.rows, .int8):
    guard let groups = groupCount(encoding, shape) else { return nil }
    return product(shape.rows, groups, encoding.group + 2)
  case (.blocks16, .int8), (.blocks16, .int4), (.blocks16, .int4Affine):
    guard let groups = groupCount(encoding, shape) else { return nil }
    return product((shape.rows - 1) / 16 + 1, groups, blockByteCount(encoding))
  default: return nil
  }
}

/// The bytes of one block of 16 rows × one group.
public func blockByteCount(_ encoding: TensorEncoding) -> Int {
  switch encoding.kind {
  case .int8: 16 * encoding.group + 32
  case .int4: 8 * encoding.group + 32
  case .int4Affine: 8 * encoding.group + 64
  default: 0
  }
}

private func groupCount(_ encoding: TensorEncoding, _ shape: TensorShape) -> Int? {
  guard [32, 64, 128].contains(encoding.group) else { return nil }
  return (shape.columns - 1) / encoding.group + 1
}

private func product(_ a: Int, _ b: Int, _ c: Int) -> Int? {
  guard c > 0 else { return nil }
  let (ab, overflow) = a.multipliedReportingOverflow(by: b)
  let (abc, overflow2) = ab.multipliedReportingOverflow(by: c)
  return overflow || overflow2 ? nil : abc
}
