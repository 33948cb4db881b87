import PIOFormat

/// The projector of two matrices in both kinds of source.
extension ConfigObject {
  func projectorConfig(textDim: Int) throws(ConvertError) -> ProjectorConfig {
    var projector = ProjectorConfig()
    projector.hiddenDim = textDim
    projector.activation = try activation("projector_hidden_act", default: "gelu")
    projector.bias = try bool("multimodal_projector_bias", default: true)
    return projector
  }

  func activation(_ key: String, default name: String) throws(ConvertError) -> Activation {
    switch try string(key, default: name) {
    case "gelu", "gelu_python": return .gelu
    case "gelu_new", "gelu_pytorch_tanh": return .geluTanh
    case "quick_gelu": return .quickGelu
    default: throw unsupported(key)
    }
  }
}

extension GGUFFile {
  /// The metadata says nothing about it: the first matrix and its bias do.
  func projectorConfig(inputDim: Int, textDim: Int) throws(ConvertError) -> ProjectorConfig {
    guard let first = tensor("mm.0.weight") else { throw .missingTensor(name: "mm.0.weight") }
    guard first.shape.count == 2, dimRange.contains(first.shape[0]) else {
      throw .wrongShape(tensor: first.name, needed: [textDim, inputDim], found: first.shape)
    }
    var projector = ProjectorConfig()
    projector.hiddenDim = first.shape[0]
    projector.bias = tensor("mm.0.bias") != nil
    return projector
  }
}

/// What sources call `projector.linear1.weight` and the like.
enum ProjectorNames {
  private static let prefix = "multi_modal_projector."

  static func canonical(_ name: String) -> String? { name.hasPrefix(prefix) ? name : nil }

  static func checkpoint(_ spec: TensorSpec) -> String {
    let (number, suffix) = parts(spec)
    return "\(prefix)linear_\(number).\(suffix)"
  }

  static func gguf(_ spec: TensorSpec) -> String {
    let (number, suffix) = parts(spec)
    return "mm.\(number == "1" ? 0 : 2).\(suffix)"
  }

  /// `1` and `weight` of `projector.linear1.weight`.
  private static func parts(_ spec: TensorSpec) -> (number: Substring, suffix: Substring) {
    let parts = spec.name.split(separator: ".")
    return (parts[1].suffix(1), parts[2])
  }
}
