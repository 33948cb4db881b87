import PIOBase
import PIOFormat

/// How the checkpoint's image processor makes the encoder's input of `imageSize`.
///
/// `processor_config.json` with a nested `image_processor` goes before `preprocessor_config.json`,
/// as in `transformers`. What our steps cannot reproduce is refused by name.
func imagePreprocessing(folder: String, imageSize: Int) throws(ConvertError) -> ImagePreprocessing {
  let config = try processorConfig(folder: folder)
  let isLlava = try config.checkType()
  var steps = ImagePreprocessing()
  guard try config.bool("do_resize", default: true) else { throw config.unsupported("do_resize") }
  let pads = try config.bool("do_pad", default: false)
  guard !pads || isLlava else { throw config.unsupported("do_pad") }
  if pads { steps.fit = .pad }
  let crops = try config.bool("do_center_crop", default: true)
  if crops {
    let crop = try config.size("crop_size", default: 224)
    guard crop == .square(imageSize) || crop == .shortestEdge(imageSize) else {
      throw config.failure("crop_size", "is not the image_size of the encoder, \(imageSize)")
    }
  }
  switch try config.size("size", default: 224) {
  case .square(let side):
    guard side == imageSize else {
      throw config.failure("size", "is \(side), not the image_size of the encoder, \(imageSize)")
    }
    if !pads { steps.fit = .stretch }
    steps.resizeTo = side
  case .shortestEdge(let edge):
    guard pads || crops else { throw config.unsupported("do_center_crop") }
    guard edge >= imageSize, !pads || edge == imageSize else {
      throw config.failure("size", "is \(edge), not the image_size of the encoder, \(imageSize)")
    }
    steps.resizeTo = edge
  }
  steps.filter = try config.filter()
  try config.readNormalization(&steps)
  return steps
}

/// How LLaVA-NeXT's image processor makes tiles of `imageSize`: the image stretched to one, and
/// those of the best of `resolutions`, which must be the model's own.
func tilePreprocessing(
  folder: String, imageSize: Int, resolutions: [PixelSize]
) throws(ConvertError) -> ImagePreprocessing {
  let config = try processorConfig(folder: folder)
  let key = "image_processor_type"
  switch try config.string(key, default: "LlavaNextImageProcessor") {
  case "LlavaNextImageProcessor", "LlavaNextImageProcessorFast", "LlavaNextImageProcessorPil":
    break
  default: throw config.unsupported(key)
  }
  guard try config.bool("do_resize", default: true) else { throw config.unsupported("do_resize") }
  for key in ["size", "crop_size"] {
    switch try config.size(key, default: 224) {
    case .square(imageSize), .shortestEdge(imageSize): break
    default:
      throw config.failure(key, "is not the image_size of the encoder, \(imageSize)")
    }
  }
  guard try config.resolutions("image_grid_pinpoints", imageSize: imageSize) == resolutions else {
    throw config.failure("image_grid_pinpoints", "differs from that of config.json")
  }
  var steps = ImagePreprocessing()
  steps.fit = .stretch
  steps.resizeTo = imageSize
  steps.filter = try config.filter()
  try config.readNormalization(&steps)
  return steps
}

private func processorConfig(folder: String) throws(ConvertError) -> ConfigObject {
  let (nested, plain) = ("processor_config.json", "preprocessor_config.json")
  if SourceFile.exists("\(folder)/\(nested)"),
    let config = try ConfigObject(folder: folder, file: nested).object("image_processor")
  {
    return config
  }
  return try ConfigObject(folder: folder, file: plain)
}

private enum TargetSize: Equatable {
  case square(Int)
  case shortestEdge(Int)
}

extension ConfigObject {
  /// Whether it is LLaVA's own processor, the only one that pads to a square.
  fileprivate func checkType() throws(ConvertError) -> Bool {
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

  /// `{"shortest_edge": n}`, `{"height": n, "width": n}` or n alone, which is a shortest edge.
  fileprivate func size(_ key: String, default value: Int) throws(ConvertError) -> TargetSize {
    let edges = 1...8192
    switch self[key] {
    case nil: return .shortestEdge(value)
    case .integer: return .shortestEdge(try count(key, default: value, in: edges))
    case .object(let members):
      let size = ConfigObject(file: file, path: "\(path)\(key).", members: members)
      for key in members.keys where !["shortest_edge", "height", "width"].contains(key) {
        guard size[key] == nil else { throw size.unsupported(key) }
      }
      if size["shortest_edge"] != nil {
        return .shortestEdge(try size.count("shortest_edge", default: value, in: edges))
      }
      let height = try size.count("height", default: 0, in: edges)
      guard try size.count("width", default: 0, in: edges) == height else {
        throw failure(key, "is not square")
      }
      return .square(height)
    default: throw unsupported(key)
    }
  }

  fileprivate func filter() throws(ConvertError) -> ImagePreprocessing.Filter {
    switch try int("resample", default: 3) {
    case 2: return .bilinear
    case 3: return .bicubic
    default: throw unsupported("resample")
    }
  }

  fileprivate func readNormalization(_ steps: inout ImagePreprocessing) throws(ConvertError) {
    steps.rescaleFactor =
      try bool("do_rescale", default: true)
      ? Float(try double("rescale_factor", default: 1.0 / 255)) : 1
    let mean = try triple("image_mean", default: (0.48145466, 0.4578275, 0.40821073))
    let std = try triple("image_std", default: (0.26862954, 0.26130258, 0.27577711))
    // LLaVA pads with the mean colour, cut to whole numbers.
    func color(_ mean: Double) -> UInt8 { UInt8(min(max(mean * 255, 0), 255)) }
    steps.padColor = (color(mean.0), color(mean.1), color(mean.2))
    guard try bool("do_normalize", default: true) else { return }
    guard [std.0, std.1, std.2].allSatisfy({ $0 >= 1e-6 }) else {
      throw failure("image_std", "has a number below 1e-6")
    }
    steps.mean = (Float(mean.0), Float(mean.1), Float(mean.2))
    steps.std = (Float(std.0), Float(std.1), Float(std.2))
  }
}
