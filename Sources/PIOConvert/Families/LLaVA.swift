import PIOBase
import PIOFormat

/// LLaVA-1.5 as a Hugging Face checkpoint.
struct LLaVACheckpoint: CheckpointVision {
  static let architectures = ["LlavaForConditionalGeneration"]
  static let defaultImageTokenID = 32_000

  let config: VisionConfig
  private let clip: CLIPReader

  init(_ root: ConfigObject, folder: String, textDim: Int) throws(ConvertError) {
    clip = try CLIPReader(root)
    var llava = LLaVAConfig()
    llava.tower = clip.tower
    llava.dropsClassToken = try root.dropsClassToken()
    llava.projector = try root.projectorConfig(textDim: textDim)
    llava.preprocessing = try imagePreprocessing(folder: folder, imageSize: clip.tower.imageSize)
    config = .llava(llava)
  }

  func canonicalName(_ name: String) -> String? {
    CLIPReader.canonicalName(name) ?? ProjectorNames.canonical(name)
  }

  func name(of spec: TensorSpec) -> String {
    spec.section == .projector ? ProjectorNames.checkpoint(spec) : CLIPReader.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? { clip.tower.sourceShape(of: spec) }

  func isIgnorable(_ name: String) -> Bool { clip.isIgnorable(name) }
}

extension ConfigObject {
  fileprivate func dropsClassToken() throws(ConvertError) -> Bool {
    let key = "vision_feature_select_strategy"
    switch try string(key, default: "default") {
    case "default": return true
    case "full": return false
    default: throw unsupported(key)
    }
  }
}

// MARK: Image processor

/// How the checkpoint's image processor makes the encoder's input of `imageSize`.
///
/// What our steps cannot reproduce is refused by name.
private func imagePreprocessing(
  folder: String, imageSize: Int
) throws(ConvertError) -> ImagePreprocessing {
  let config = try processorConfig(folder: folder)
  let pads = try config.pads()
  let crops = try config.crops(to: imageSize)
  var steps = ImagePreprocessing()
  if pads { steps.fit = .pad }
  switch try config.size("size", default: 224) {
  case .square(let side):
    guard side == imageSize else { throw config.wrongSize("size", side, imageSize) }
    if !pads { steps.fit = .stretch }
    steps.resizeTo = side
  case .shortestEdge(let edge):
    guard pads || crops else { throw config.unsupported("do_center_crop") }
    guard edge >= imageSize, !pads || edge == imageSize else {
      throw config.wrongSize("size", edge, imageSize)
    }
    steps.resizeTo = edge
  }
  steps.filter = try config.filter(default: .bicubic)
  try config.readNormalization(&steps)
  return steps
}

extension ConfigObject {
  /// Only LLaVA's own processor pads to a square.
  fileprivate func pads() throws(ConvertError) -> Bool {
    let isLLaVA = try isLLaVAProcessor()
    guard try bool("do_resize", default: true) else { throw unsupported("do_resize") }
    let pads = try bool("do_pad", default: false)
    guard !pads || isLLaVA else { throw unsupported("do_pad") }
    return pads
  }

  private func isLLaVAProcessor() throws(ConvertError) -> Bool {
    let key =
      self["image_processor_type"] == nil ? "feature_extractor_type" : "image_processor_type"
    switch try string(key, default: "CLIPImageProcessor") {
    case "CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil",
      "CLIPFeatureExtractor":
      return false
    case "LlavaImageProcessor", "LlavaImageProcessorFast", "LlavaImageProcessorPil": return true
    default: throw unsupported(key)
    }
  }

  fileprivate func crops(to imageSize: Int) throws(ConvertError) -> Bool {
    guard try bool("do_center_crop", default: true) else { return false }
    let crop = try size("crop_size", default: 224)
    guard crop == .square(imageSize) || crop == .shortestEdge(imageSize) else {
      throw failure("crop_size", "is not the image_size of the encoder, \(imageSize)")
    }
    return true
  }

  fileprivate func wrongSize(_ key: String, _ found: Int, _ imageSize: Int) -> ConvertError {
    failure(key, "is \(found), not the image_size of the encoder, \(imageSize)")
  }
}

// MARK: GGUF

/// LLaVA-1.5's vision encoder and projector as an `mmproj` file.
struct LLaVAProjectorFile: VisionSource {
  let config: VisionConfig
  private let clip: GGUFCLIPReader

  init(_ file: GGUFFile, textDim: Int) throws(ConvertError) {
    clip = try GGUFCLIPReader(file)
    let resolutions = "clip.vision.image_grid_pinpoints"
    if let edges = try file.numbers(resolutions, atMost: 128), !edges.isEmpty {
      throw file.failure(
        "clip.vision.mm_patch_merge_type", "'flat' is not supported with \(resolutions)")
    }
    var llava = LLaVAConfig()
    llava.tower = clip.tower
    llava.projector = try file.projectorConfig(inputDim: clip.tower.dim, textDim: textDim)
    llava.preprocessing = try file.normalization()
    llava.preprocessing.fit = try file.fit()
    llava.preprocessing.resizeTo = clip.tower.imageSize
    config = .llava(llava)
  }

  func name(of spec: TensorSpec) -> String {
    spec.section == .projector ? ProjectorNames.gguf(spec) : clip.name(of: spec)
  }

  func shape(of spec: TensorSpec) -> [Int]? { clip.tower.sourceShape(of: spec) }

  func isIgnorable(_ name: String) -> Bool { clip.isIgnorable(name) }
}

extension GGUFFile {
  /// LLaVA-1.5 was trained on images padded to a square with the mean colour.
  fileprivate func fit() throws(ConvertError) -> ImagePreprocessing.Fit {
    let key = "clip.vision.image_aspect_ratio"
    switch try text(key) ?? "pad" {
    case "pad": return .pad
    case "square": return .crop
    case let ratio: throw failure(key, "'\(ratio.shortened)' is not supported (pad, square are)")
    }
  }
}
