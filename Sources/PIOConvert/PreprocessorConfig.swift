import PIOBase
import PIOFormat

/// The image processor's configuration.
///
/// `processor_config.json` with a nested `image_processor` goes before `preprocessor_config.json`,
/// as in `transformers`.
func processorConfig(folder: String) throws(ConvertError) -> ConfigObject {
  let (nested, plain) = ("processor_config.json", "preprocessor_config.json")
  if try SourceFile.exists("\(folder)/\(nested)"),
    let config = try ConfigObject(folder: folder, file: nested).object("image_processor")
  {
    return config
  }
  return try ConfigObject(folder: folder, file: plain)
}

/// `size` or `crop_size` of an image processor.
enum TargetSize: Equatable {
  case square(Int)
  case shortestEdge(Int)
}

extension ConfigObject {
  /// `{"shortest_edge": n}`, `{"height": n, "width": n}` or n alone, which is a shortest edge.
  func size(_ key: String, default value: Int) throws(ConvertError) -> TargetSize {
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

  func filter(
    default filter: ImagePreprocessing.Filter
  ) throws(ConvertError) -> ImagePreprocessing.Filter {
    let number = try int("resample", default: Int(filter.rawValue))
    guard let found = UInt8(exactly: number).flatMap(ImagePreprocessing.Filter.init(rawValue:))
    else { throw unsupported("resample") }
    return found
  }

  /// `mean`, `std`: those of the processor's class.
  func readNormalization(
    _ steps: inout ImagePreprocessing,
    mean defaultMean: (Double, Double, Double) = (0.48145466, 0.4578275, 0.40821073),
    std defaultStd: (Double, Double, Double) = (0.26862954, 0.26130258, 0.27577711)
  ) throws(ConvertError) {
    steps.rescaleFactor =
      try bool("do_rescale", default: true)
      ? Float(try double("rescale_factor", default: 1.0 / 255)) : 1
    let mean = try triple("image_mean", default: defaultMean)
    let std = try triple("image_std", default: defaultStd)
    steps.padColor = padColor(mean)
    guard try bool("do_normalize", default: true) else { return }
    guard [std.0, std.1, std.2].allSatisfy({ $0 >= 1e-6 }) else {
      throw failure("image_std", "has a number below 1e-6")
    }
    steps.mean = (Float(mean.0), Float(mean.1), Float(mean.2))
    steps.std = (Float(std.0), Float(std.1), Float(std.2))
  }
}

/// LLaVA pads with the mean colour, cut to whole numbers.
func padColor(_ mean: (Double, Double, Double)) -> (UInt8, UInt8, UInt8) {
  func color(_ mean: Double) -> UInt8 { UInt8(min(max(mean * 255, 0), 255)) }
  return (color(mean.0), color(mean.1), color(mean.2))
}
