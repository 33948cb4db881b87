import PIOConvert
import PIOFormat
import PIORuntime

/// One part of the file with one kind of tensor.
struct SectionSummary: Encodable {
  let section: String
  let kind: String
  var tensors = 0
  var weights = 0
  var bytes = 0
}

func sections(_ tensors: [TensorEntry]) -> [SectionSummary] {
  var parts: [SectionSummary] = []
  for tensor in tensors {
    let (name, kind) = (tensor.spec.section.partName, tensor.encoding.kind.name)
    var index = parts.count
    if let found = parts.firstIndex(where: { $0.section == name && $0.kind == kind }) {
      index = found
    } else {
      parts.append(SectionSummary(section: name, kind: kind))
    }
    parts[index].tensors += 1
    parts[index].weights += tensor.spec.shape.rows * tensor.spec.shape.columns
    parts[index].bytes += tensor.byteCount
  }
  return parts
}

/// What `inspect --json` prints.
struct ModelSummary: Encodable {
  struct Tensor: Encodable {
    let name: String
    let section: String
    let rows: Int
    let columns: Int
    let kind: String
    let layout: String
    let group: Int
    let offset: Int
    let bytes: Int
    let xxh64: String
  }
  struct Source: Encodable {
    let name: String
    let sha256: String
  }
  struct Config: Encodable {
    let dim: Int
    let hiddenDim: Int
    let layers: Int
    let heads: Int
    let kvHeads: Int
    let headDim: Int
    let vocabulary: Int
    let maxPositions: Int
    let ropeTheta: Float
    let ropeScaling: String
    let tiedHead: Bool
    let imageSize: Int?
    let patchSize: Int?
    let visionLayers: Int?
    let visualTokens: Int?
    let promptTemplate: String
  }
  let bytes: Int
  let verified: Bool
  let config: Config
  let sections: [SectionSummary]
  let tokenizerBytes: Int
  let tensors: [Tensor]
  let converter: String
  let recipe: String
  let sources: [Source]

  init(_ model: borrowing ModelFile, isVerified: Bool) {
    let (text, vision) = (model.config.text, model.config.vision?.summary)
    bytes = model.byteCount
    verified = isVerified
    config = Config(
      dim: text.dim, hiddenDim: text.hiddenDim, layers: text.layerCount, heads: text.headCount,
      kvHeads: text.kvHeadCount, headDim: text.headDim, vocabulary: text.vocabSize,
      maxPositions: text.maxPositions, ropeTheta: text.ropeTheta,
      ropeScaling: "\(text.ropeScaling)", tiedHead: text.tiedHead,
      imageSize: vision?.inputSide, patchSize: vision?.patchSize,
      visionLayers: vision?.layerCount, visualTokens: model.config.vision?.maxVisualTokenCount,
      promptTemplate: model.config.prompt.name)
    sections = pioedge.sections(model.tensors)
    tokenizerBytes = model.tokenizerSection.count
    tensors = model.tensors.map { tensor in
      Tensor(
        name: tensor.spec.name, section: tensor.spec.section.partName,
        rows: tensor.spec.shape.rows, columns: tensor.spec.shape.columns,
        kind: tensor.encoding.kind.name, layout: "\(tensor.encoding.layout)",
        group: tensor.encoding.group, offset: tensor.offset, bytes: tensor.byteCount,
        xxh64: String(tensor.checksum, radix: 16))
    }
    (converter, recipe) = (model.provenance.converter, model.provenance.recipe)
    sources = model.provenance.sources.map { Source(name: $0.name, sha256: $0.sha256) }
  }
}
