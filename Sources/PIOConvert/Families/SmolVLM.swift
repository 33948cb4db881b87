import PIOBase
import PIOFormat

/// SmolVLM, SmolVLM2 and Idefics3 as a Hugging Face checkpoint.
struct SmolVLMCheckpoint: CheckpointVision {
  static let architectures = [
    "SmolVLMForConditionalGeneration", "Idefics3ForConditionalGeneration",
  ]
  static let defaultImageTokenID = 128_257
  static let decoderPrefix = "text_model."
  static let headName = "lm_head.weight"

  let config: VisionConfig
  private let siglip: SigLIPReader

  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError) {
    siglip = try SigLIPReader(root)
    var smol = SmolVLMConfig()
    smol.tower = siglip.tower
    smol.shuffle = try root.count("scale_factor", default: 2, in: 1...16)
    guard smol.tower.patchesPerSide % smol.shuffle == 0 else {
      throw root.failure(
        "scale_factor",
        "\(smol.shuffle) does not divide the patches a side, \(smol.tower.patchesPerSide)")
    }
    try processorConfig(folder: folder).readSplitting(&smol)
    smol.usePlaceholders()
    config = .smolVLM(smol)
  }

  func canonicalName(_ name: String) -> String? {
    name.hasPrefix(SigLIPReader.prefix) || name == checkpointConnector ? name : nil
  }

  func name(of spec: TensorSpec) -> String {
    spec.name == "projector.linear.weight" ? checkpointConnector : SigLIPReader.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? { siglip.tower.sourceShape(of: spec) }

  func isIgnorable(_ name: String) -> Bool { false }
}

private let checkpointConnector = "connector.modality_projection.proj.weight"

extension SmolVLMConfig {
  /// Until the tokenizer is read: markers of a token each.
  fileprivate mutating func usePlaceholders() {
    markers = TileMarkers(mostTiles: min(mostTiles, 16)) { _ in [0] }
  }
}

// MARK: Image processor

extension ConfigObject {
  /// How the image processor cuts an image: keys of `Idefics3ImageProcessor` and `SmolVLMImageProcessor`.
  fileprivate func readSplitting(_ smol: inout SmolVLMConfig) throws(ConvertError) {
    let kinds = ["Idefics3ImageProcessor", "SmolVLMImageProcessor"]
    let names = kinds.flatMap { [$0, $0 + "Fast", $0 + "Pil"] }
    guard names.contains(try string("image_processor_type", default: kinds[0])) else {
      throw unsupported("image_processor_type")
    }
    guard try bool("do_resize", default: true) else { throw unsupported("do_resize") }
    smol.splits = try bool("do_image_splitting", default: true)
    smol.longestEdge = try longestEdge("size", default: 4 * 364)
    let side = try longestEdge("max_image_size", default: 364)
    guard side == smol.tower.imageSize else {
      throw failure(
        "max_image_size", "is \(side), not the image_size of the encoder, \(smol.tower.imageSize)")
    }
    try readNormalization(
      &smol.preprocessing, mean: (0.5, 0.5, 0.5), std: (0.5, 0.5, 0.5))
    smol.preprocessing.filter = try filter(default: .lanczos)
    smol.preprocessing.resizeTo = side
    guard smol.mostTiles <= 16 else {
      throw failure(
        "size", "makes \(smol.mostTiles) tiles of \(side) pixels along an edge (16 are supported)")
    }
  }

  private func longestEdge(_ key: String, default value: Int) throws(ConvertError) -> Int {
    guard let size = try object(key) else {
      return try count(key, default: value, in: 1...8192)
    }
    for other in size.members.keys where other != "longest_edge" {
      guard size[other] == nil else { throw size.unsupported(other) }
    }
    return try size.count("longest_edge", default: value, in: 1...8192)
  }
}

// MARK: GGUF

/// SmolVLM's vision encoder and connector as an `mmproj` file.
struct SmolVLMProjectorFile: VisionSource {
  let config: VisionConfig
  private let siglip: GGUFSigLIPReader

  init(_ file: GGUFFile, textDim: Int) throws(ConvertError) {
    siglip = try GGUFSigLIPReader(file)
    var smol = SmolVLMConfig()
    smol.tower = siglip.tower
    smol.shuffle = try file.needed("clip.vision.projector.scale_factor", in: 1...16)
    guard smol.tower.patchesPerSide % smol.shuffle == 0 else {
      throw file.failure(
        "clip.vision.projector.scale_factor",
        "\(smol.shuffle) does not divide the patches a side, \(smol.tower.patchesPerSide)")
    }
    smol.preprocessing = try file.normalization()
    smol.preprocessing.fit = .stretch
    smol.preprocessing.filter = .lanczos
    smol.preprocessing.resizeTo = smol.tower.imageSize
    smol.longestEdge = try file.longestEdge(of: smol.tower)
    guard smol.mostTiles <= 16 else {
      throw file.failure(
        preprocessedSize, "makes \(smol.mostTiles) tiles along an edge (16 are supported)")
    }
    smol.usePlaceholders()
    config = .smolVLM(smol)
  }

  func name(of spec: TensorSpec) -> String {
    spec.name == "projector.linear.weight" ? "mm.model.fc.weight" : siglip.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? { siglip.tower.sourceShape(of: spec) }

  func isIgnorable(_ name: String) -> Bool { false }
}

private let preprocessedSize = "clip.vision.preproc_image_size"

extension GGUFFile {
  /// Older files do not say it; published checkpoints have four tiles along an edge.
  fileprivate func longestEdge(of tower: SigLIPConfig) throws(ConvertError) -> Int {
    guard try number(preprocessedSize) != nil else { return min(4 * tower.imageSize, 8192) }
    return try needed(preprocessedSize, in: 1...8192)
  }
}
