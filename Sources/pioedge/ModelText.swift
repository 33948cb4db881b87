import PIOConvert
import PIOFormat
import PIORuntime

/// What `inspect` prints for people.
func modelText(
  _ model: borrowing ModelFile, path: String, tensors: Bool, isVerified: Bool
) -> String {
  var text = table(describe(model.config), right: [])
  text += "\n" + table(sectionRows(model), right: [2, 3, 4])
  if tensors { text += "\n" + table(tensorRows(model), right: [4]) }
  text += "\nmade by \(model.provenance.converter): \(model.provenance.recipe)\n"
  text += table(model.provenance.sources.map { [$0.name, $0.sha256] }, right: [])
  text += "\(path): \(byteText(model.byteCount))"
  return text + (isVerified ? ", every checksum verified" : "")
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

/// The configuration as name and value.
private func describe(_ config: ModelConfig) -> [[String]] {
  decoderRows(config.text) + (config.vision.map(visionRows) ?? [])
    + [["prompt", config.prompt.name]]
}

private func decoderRows(_ text: TextConfig) -> [[String]] {
  [
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
}

private func visionRows(_ vision: VisionConfig) -> [[String]] {
  let tower = vision.summary
  return [
    [
      "vision",
      "\(tower.layerCount) layers, dim \(tower.dim), hidden \(tower.hiddenDim),"
        + " \(tower.headCount) heads, \(tower.inputSide) pixels in patches of"
        + " \(tower.patchSize): \(vision.hasSizesOfSeveralCounts ? "up to " : "")"
        + "\(vision.maxVisualTokenCount) visual tokens",
    ],
    [
      "images",
      tower.preparation,
    ],
  ]
}
