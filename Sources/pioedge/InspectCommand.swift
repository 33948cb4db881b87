import ArgumentParser
import PIOConvert
import PIOFormat

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show what is in a .piom file.",
    discussion: """
      Examples:
        pioedge inspect llava.piom
        pioedge inspect llava.piom --verify
        pioedge inspect llava.piom --tensors
        pioedge inspect llava.piom --json
        pioedge inspect --cpu                what this machine is, and which kernels run on it
      """)

  @Argument(help: "The .piom file.")
  var file: String?

  @Flag(help: "Check every byte of the tensors against its checksum.")
  var verify = false

  @Flag(help: "List every tensor.")
  var tensors = false

  @Flag(help: "Print one JSON object, tensors included.")
  var json = false

  @Flag(help: "Show the processor and the kernels that were chosen for it, instead of a file.")
  var cpu = false

  mutating func validate() throws {
    guard cpu != (file != nil) else {
      throw ValidationError(
        cpu ? "--cpu shows the machine and takes no file" : "a file is needed, or --cpu")
    }
    guard !cpu || !(verify || tensors) else {
      throw ValidationError("--verify and --tensors are about a file, --cpu is not")
    }
  }

  func run() throws {
    do {
      if let file {
        let model = try ModelFile(path: file)
        if verify { try verify(model) }
        try printOutput(
          json ? jsonText(ModelSummary(model, isVerified: verify)) : text(model, path: file))
      } else {
        let report = try ProcessorReport()
        try printOutput(json ? jsonLine(report) : report.text)
      }
    } catch {
      throw fail(error)
    }
  }

  private func verify(_ model: borrowing ModelFile) throws {
    var line = ProgressLine()
    var done = 0
    defer { line.clear() }
    for (i, tensor) in model.tensors.enumerated() {
      try model.verify(i)
      done += tensor.byteCount
      line.show("verifying", done: done, of: model.byteCount)
    }
  }

  private func text(_ model: borrowing ModelFile, path: String) -> String {
    var text = table(describe(model.config), right: [])
    text += "\n" + table(sectionRows(model), right: [2, 3, 4])
    if tensors { text += "\n" + table(tensorRows(model), right: [4]) }
    text += "\nmade by \(model.provenance.converter): \(model.provenance.recipe)\n"
    text += table(model.provenance.sources.map { [$0.name, $0.sha256] }, right: [])
    text += "\(path): \(byteText(model.byteCount))"
    return text + (verify ? ", every checksum verified" : "")
  }

  private func sectionRows(_ model: borrowing ModelFile) -> [[String]] {
    var rows = [["section", "kind", "tensors", "size", "bits/weight"]]
    for part in sections(model.tensors) {
      rows.append([
        part.section, part.kind, "\(part.tensors)", byteText(part.bytes),
        decimal(8 * Double(part.bytes) / Double(part.weights), 2),
      ])
    }
    rows.append(["tokenizer", "", "", byteText(model.tokenizerSection.count)])
    return rows
  }

  private func tensorRows(_ model: borrowing ModelFile) -> [[String]] {
    [["tensor", "kind", "group", "shape", "size"]]
      + model.tensors.map { tensor in
        [
          tensor.spec.name, tensor.encoding.kind.name,
          tensor.encoding.group > 0 ? "\(tensor.encoding.group)" : "",
          "\(tensor.spec.shape.rows) × \(tensor.spec.shape.columns)", byteText(tensor.byteCount),
        ]
      }
  }
}

/// The configuration as name and value.
private func describe(_ config: ModelConfig) -> [[String]] {
  let text = config.text
  var rows = [
    [
      "decoder",
      "\(text.layerCount) layers, dim \(text.dim), hidden \(text.hiddenDim),"
        + " \(text.headCount) heads of \(text.headDim), \(text.kvHeadCount) for keys and values",
    ],
    ["vocabulary", "\(text.vocabSize)\(text.tiedHead ? ", head tied to the embedding" : "")"],
    [
      "positions",
      "\(text.maxPositions), RoPE theta \(text.ropeTheta)"
        + (text.ropeScaling == .none ? "" : ", \(text.ropeScaling) scaling")
        + (text.slidingWindow.map { ", each sees \($0)" } ?? ""),
    ],
  ]
  if let vision = config.vision {
    rows += [
      [
        "vision",
        "\(vision.layerCount) layers, dim \(vision.dim), hidden \(vision.hiddenDim),"
          + " \(vision.headCount) heads, \(vision.imageSize) pixels in patches of"
          + " \(vision.patchSize): "
          + (vision.isTiled ? "up to \(vision.maxVisualTokenCount)" : "\(vision.visualTokenCount)")
          + " visual tokens",
      ],
      [
        "images",
        "resized to \(vision.preprocessing.resizeTo) (\(vision.preprocessing.filter)),"
          + " \(vision.preprocessing.fit)"
          + (vision.isTiled ? ", and cut into tiles at \(resolutions(vision))" : ""),
      ],
    ]
  }
  rows.append(["prompt", config.prompt.name])
  return rows
}

/// One part of the file with one kind of tensor.
private struct SectionSummary: Encodable {
  let section: String
  let kind: String
  var tensors = 0
  var weights = 0
  var bytes = 0
}

private func sections(_ tensors: [TensorEntry]) -> [SectionSummary] {
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

/// What `--json` prints.
private struct ModelSummary: Encodable {
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
    let (text, vision) = (model.config.text, model.config.vision)
    bytes = model.byteCount
    verified = isVerified
    config = Config(
      dim: text.dim, hiddenDim: text.hiddenDim, layers: text.layerCount, heads: text.headCount,
      kvHeads: text.kvHeadCount, headDim: text.headDim, vocabulary: text.vocabSize,
      maxPositions: text.maxPositions, ropeTheta: text.ropeTheta,
      ropeScaling: "\(text.ropeScaling)", tiedHead: text.tiedHead,
      imageSize: vision?.imageSize, patchSize: vision?.patchSize,
      visionLayers: vision?.layerCount, visualTokens: vision?.maxVisualTokenCount,
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

/// `336x672, 672x336`, heights first.
private func resolutions(_ vision: VisionConfig) -> String {
  vision.resolutions.map { "\($0.height)x\($0.width)" }.joined(separator: ", ")
}
