import Glibc
import PIOFormat

/// What a conversion made, or would make.
public struct ConvertReport: Sendable, Equatable {
  /// One tensor of the file.
  public struct Tensor: Sendable, Equatable {
    public let entry: TensorEntry
    /// Σw² and Σ(w - ŵ)²; nil in a dry run and for the computed frequencies.
    public let signal: Double?
    public let noise: Double?

    /// Nil where nothing was lost or nothing was there.
    public var snrDecibels: Double? { decibels(signal ?? 0, noise ?? 0) }
  }

  /// The tensors of one part of the model that are stored alike.
  public struct Part: Sendable, Equatable {
    public let name: String
    public let kind: TensorKind
    public var tensorCount = 0
    public var weightCount = 0
    public var byteCount = 0
    public var signal = 0.0
    public var noise = 0.0
    /// The tensor with the lowest SNR.
    public var worst: Tensor?

    public var snrDecibels: Double? { decibels(signal, noise) }
    public var bitsPerWeight: Double { 8 * Double(byteCount) / Double(max(weightCount, 1)) }
  }

  public let config: ModelConfig
  public let recipe: String
  /// Of the whole file.
  public let byteCount: Int
  /// Of the source's weights, all of them.
  public let sourceByteCount: Int
  public let tensors: [Tensor]
  /// Tensors of the checkpoint that the model does not need.
  public let ignored: [String]

  /// By part and kind, in file order; norms, biases and tables of numbers are the part `small`.
  public var parts: [Part] {
    var parts: [Part] = []
    for tensor in tensors {
      let spec = tensor.entry.spec
      let name = spec.role == .small ? "small" : spec.section.partName
      let kind = tensor.entry.encoding.kind
      var index = parts.count
      if let found = parts.firstIndex(where: { $0.name == name && $0.kind == kind }) {
        index = found
      } else {
        parts.append(Part(name: name, kind: kind))
      }
      parts[index].tensorCount += 1
      parts[index].weightCount += spec.shape.rows * spec.shape.columns
      parts[index].byteCount += tensor.entry.byteCount
      parts[index].signal += tensor.signal ?? 0
      parts[index].noise += tensor.noise ?? 0
      if let snr = tensor.snrDecibels, snr < parts[index].worst?.snrDecibels ?? .infinity {
        parts[index].worst = tensor
      }
    }
    return parts
  }
}

extension TensorSection {
  /// `decoder`, `vision`, `projector`, `embedding` or `head`.
  public var partName: String {
    switch self {
    case .embedding: "embedding"
    case .visionEmbedding, .visionLayer: "vision"
    case .projector, .deepstack: "projector"
    case .decoderLayer: "decoder"
    case .head: "head"
    }
  }
}

/// 10 · log10(signal / noise); nil where one of them is zero.
func decibels(_ signal: Double, _ noise: Double) -> Double? {
  signal > 0 && noise > 0 ? 10 * log10(signal / noise) : nil
}
