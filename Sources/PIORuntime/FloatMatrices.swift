import PIOFormat

extension ModelFile {
  /// The first weight matrix that is not quantized, or nil.
  public var firstFloatMatrix: String? {
    tensors.first { $0.spec.role == .matrix && !$0.encoding.kind.isQuantized }?.spec.name
  }
}
