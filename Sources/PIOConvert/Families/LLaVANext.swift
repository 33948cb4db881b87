import PIOBase
import PIOFormat

/// LLaVA-1.6 (LLaVA-NeXT) as a Hugging Face checkpoint.
struct LLaVANextCheckpoint: CheckpointVision {
  static let architectures = ["LlavaNextForConditionalGeneration"]
  static let defaultImageTokenID = 32_000

  let config: VisionConfig
  private let clip: CLIPReader

  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError) {
    clip = try CLIPReader(root)
    var next = LLaVANextConfig()
    next.tower = clip.tower
    next.projector = try root.projectorConfig(textDim: textDim)
    try root.checkTilesAreJoinable()
    next.resolutions = try root.resolutions(imageSize: clip.tower.imageSize)
    next.preprocessing = try tilePreprocessing(
      folder: folder, imageSize: clip.tower.imageSize, resolutions: next.resolutions)
    config = .llavaNext(next)
  }

  func canonicalName(_ name: String) -> String? {
    if name == checkpointNewline { return name }
    return CLIPReader.canonicalName(name) ?? ProjectorNames.canonical(name)
  }

  func name(of spec: TensorSpec) -> String {
    if spec.name == "projector.newline" { return checkpointNewline }
    return spec.section == .projector ? ProjectorNames.checkpoint(spec) : CLIPReader.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? { clip.tower.sourceShape(of: spec) }

  func isIgnorable(_ name: String) -> Bool { clip.isIgnorable(name) }
}

/// The row after each line of patches.
private let checkpointNewline = "image_newline"
private let ggufNewline = "model.image_newline"

extension ConfigObject {
  fileprivate func checkTilesAreJoinable() throws(ConvertError) {
    guard try bool("use_image_newline_parameter", default: true) else {
      throw unsupported("use_image_newline_parameter")
    }
    // Tiles are joined by their patches, among which a class token has no place.
    let key = "vision_feature_select_strategy"
    guard try string(key, default: "default") == "default" else { throw unsupported(key) }
  }

  /// `image_grid_pinpoints`: `[[height, width], …]`, multiples of `imageSize`; without the key those
  /// of LLaVA-NeXT's processor.
  fileprivate func resolutions(imageSize: Int) throws(ConvertError) -> [PixelSize] {
    guard let value = self[resolutionsKey] else { return defaultResolutions }
    guard case .array(let pairs) = value, (1...64).contains(pairs.count) else {
      throw failure(resolutionsKey, "is not a list of 1 to 64 resolutions")
    }
    var found: [PixelSize] = []
    for pair in pairs { found.append(try resolution(pair, imageSize: imageSize)) }
    return found
  }

  private func resolution(
    _ pair: JSONValue, imageSize: Int
  ) throws(ConvertError) -> PixelSize {
    guard case .array(let edges) = pair, edges.count == 2, case .integer(let height) = edges[0],
      case .integer(let width) = edges[1]
    else { throw failure(resolutionsKey, "has \(pair.quoted), which is not [height, width]") }
    for edge in [height, width] {
      guard (1...8192).contains(edge), edge % imageSize == 0 else {
        throw failure(
          resolutionsKey, "has \(pair.quoted), not multiples of the tile size, \(imageSize)")
      }
    }
    return PixelSize(height: height, width: width)
  }
}

private let resolutionsKey = "image_grid_pinpoints"

private let defaultResolutions = [
  (336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008),
].map { PixelSize(height: $0.0, width: $0.1) }

// MARK: Image processor

/// How LLaVA-NeXT's image processor makes tiles of `imageSize`: the image stretched to one, and
/// those of the best of `resolutions`, which must be the model's.
private func tilePreprocessing(
  folder: String, imageSize: Int, resolutions: [PixelSize]
) throws(ConvertError) -> ImagePreprocessing {
  let config = try processorConfig(folder: folder)
  try config.checkTileProcessor(imageSize: imageSize)
  guard try config.resolutions(imageSize: imageSize) == resolutions else {
    throw config.failure(resolutionsKey, "differs from that of config.json")
  }
  var steps = ImagePreprocessing()
  steps.fit = .stretch
  steps.resizeTo = imageSize
  steps.filter = try config.filter(default: .bicubic)
  try config.readNormalization(&steps)
  return steps
}

extension ConfigObject {
  fileprivate func checkTileProcessor(imageSize: Int) throws(ConvertError) {
    let key = "image_processor_type"
    switch try string(key, default: "LlavaNextImageProcessor") {
    case "LlavaNextImageProcessor", "LlavaNextImageProcessorFast", "LlavaNextImageProcessorPil":
      break
    default: throw unsupported(key)
    }
    guard try bool("do_resize", default: true) else { throw unsupported("do_resize") }
    for key in ["size", "crop_size"] {
      let found = try size(key, default: 224)
      guard found == .square(imageSize) || found == .shortestEdge(imageSize) else {
        throw failure(key, "is not the image_size of the encoder, \(imageSize)")
      }
    }
  }
}

// MARK: GGUF

/// LLaVA-1.6's vision encoder and projector as an `mmproj` file.
struct LLaVANextProjectorFile: VisionSource {
  let config: VisionConfig
  private let clip: GGUFCLIPReader

  init(_ file: GGUFFile, textDim: Int) throws(ConvertError) {
    clip = try GGUFCLIPReader(file)
    var next = LLaVANextConfig()
    next.tower = clip.tower
    next.projector = try file.projectorConfig(inputDim: clip.tower.dim, textDim: textDim)
    next.resolutions = try file.resolutions(imageSize: clip.tower.imageSize)
    next.preprocessing = try file.normalization()
    next.preprocessing.fit = try file.tileFit()
    next.preprocessing.resizeTo = clip.tower.imageSize
    config = .llavaNext(next)
  }

  func name(of spec: TensorSpec) -> String {
    if spec.name == "projector.newline" { return ggufNewline }
    return spec.section == .projector ? ProjectorNames.gguf(spec) : clip.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? { clip.tower.sourceShape(of: spec) }

  func isIgnorable(_ name: String) -> Bool { clip.isIgnorable(name) }
}

extension GGUFFile {
  /// The numbers are read in the order of `transformers`, height first: published lists hold either
  /// way up, and so the pair's answers are those of the checkpoint in its other form.
  fileprivate func resolutions(imageSize: Int) throws(ConvertError) -> [PixelSize] {
    let key = "clip.vision.image_grid_pinpoints"
    guard let numbers = try numbers(key, atMost: 128), !numbers.isEmpty else {
      throw failure(key, "is missing; clip.vision.mm_patch_merge_type spatial_unpad needs it")
    }
    let edges = numbers.compactMap { Int(exactly: $0) }
    guard edges.count == numbers.count, edges.count % 2 == 0,
      edges.allSatisfy({ (1...8192).contains($0) && $0 % imageSize == 0 })
    else {
      throw failure(
        key, "is not a list of heights and widths that are multiples of the tile size, \(imageSize)"
      )
    }
    return stride(from: 0, to: edges.count, by: 2).map {
      PixelSize(height: edges[$0], width: edges[$0 + 1])
    }
  }

  /// The tile with the whole image is stretched.
  fileprivate func tileFit() throws(ConvertError) -> ImagePreprocessing.Fit {
    let key = "clip.vision.image_aspect_ratio"
    let ratio = try text(key) ?? "anyres"
    guard ratio == "anyres" else {
      throw failure(key, "'\(ratio.shortened)' is not supported (anyres is)")
    }
    return .stretch
  }
}
