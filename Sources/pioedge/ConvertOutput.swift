import PIOConvert
import PIOFormat
import PIORuntime

extension ConvertReport {
  fileprivate struct JSON: Encodable {
    struct Part: Encodable {
      let part: String
      let kind: String
      let tensors: Int
      let weights: Int
      let bytes: Int
      let bitsPerWeight: Double
      let snrDb: Double?
      let worstTensor: String?
      let worstSnrDb: Double?
    }
    struct Tensor: Encodable {
      let name: String
      let kind: String
      let bytes: Int
      let snrDb: Double?
    }
    let bytes: Int
    let sourceBytes: Int
    let seconds: Double
    let peakResidentBytes: Int
    let recipe: String
    let parts: [Part]
    let tensors: [Tensor]
    let ignored: [String]
  }

  func json(seconds: Double) throws -> String {
    try jsonText(
      JSON(
        bytes: byteCount, sourceBytes: sourceByteCount, seconds: seconds,
        peakResidentBytes: ProcessStatus.peakResidentBytes, recipe: recipe,
        parts: parts.map {
          JSON.Part(
            part: $0.name, kind: $0.kind.name, tensors: $0.tensorCount, weights: $0.weightCount,
            bytes: $0.byteCount, bitsPerWeight: $0.bitsPerWeight, snrDb: $0.snrDecibels,
            worstTensor: $0.worst?.entry.spec.name, worstSnrDb: $0.worst?.snrDecibels)
        },
        tensors: tensors.map {
          JSON.Tensor(
            name: $0.entry.spec.name, kind: $0.entry.encoding.kind.name, bytes: $0.entry.byteCount,
            snrDb: $0.snrDecibels)
        }, ignored: ignored))
  }
}

extension VerifyReport {
  /// Tensors that are not the reference's bit for bit, the worst first.
  private var differing: [Tensor] {
    tensors.filter { $0.largestError != 0 }
      .sorted { ($0.snrDecibels ?? -.infinity) < ($1.snrDecibels ?? -.infinity) }
  }

  func text(_ path: String, _ reference: String) -> String {
    var rows = [["tensor", "kind", "weights", "SNR dB", "largest error"]]
    for tensor in differing {
      let shape = tensor.entry.spec.shape
      rows.append([
        tensor.entry.spec.name, tensor.entry.encoding.kind.name, "\(shape.rows * shape.columns)",
        tensor.snrDecibels.map { decimal($0, 1) } ?? "", "\(Float(tensor.largestError))",
      ])
    }
    var text = differing.isEmpty ? "" : table(rows, right: [2, 3, 4])
    text += "\(path): every checksum verified; against \(reference) "
    text += "\(tensors.count - differing.count) of \(tensors.count) tensors are equal"
    return text + ", the tokenizer \(hasSameTokenizer ? "too" : "differs")"
  }

  private struct JSON: Encodable {
    struct Tensor: Encodable {
      let name: String
      let kind: String
      let snrDb: Double?
      let largestError: Double
    }
    let file: String
    let verifiedAgainst: String
    let equalTensors: Int
    let equalTokenizer: Bool
    let tensors: [Tensor]
  }

  func json(_ path: String, _ reference: String) throws -> String {
    try jsonText(
      JSON(
        file: path, verifiedAgainst: reference, equalTensors: tensors.count - differing.count,
        equalTokenizer: hasSameTokenizer,
        tensors: tensors.map {
          JSON.Tensor(
            name: $0.entry.spec.name, kind: $0.entry.encoding.kind.name,
            snrDb: $0.snrDecibels, largestError: $0.largestError)
        }))
  }
}
