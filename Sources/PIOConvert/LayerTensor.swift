import PIOFormat

/// A tensor of a numbered layer: `text.layers.3.attention.query.weight` in its parts.
struct LayerTensor {
  let layer: Substring
  /// `attention.query`
  let module: String
  /// `weight` or `bias`
  let suffix: Substring

  /// Nil where the tensor is of no layer.
  init?(_ spec: TensorSpec) {
    let parts = spec.name.split(separator: ".")
    guard parts.count > 4, parts[1] == "layers" else { return nil }
    layer = parts[2]
    module = parts[3..<parts.count - 1].joined(separator: ".")
    suffix = parts[parts.count - 1]
  }

  /// The name in a source that calls layers `layers` and the modules as `modules` says.
  func name(layers: String, modules: [String: String]) -> String {
    "\(layers).\(layer).\(modules[module]!).\(suffix)"
  }
}

/// The number that follows `prefix` in the name of a layer's tensor.
func layerIndex(_ name: String, after prefix: String) -> Int? {
  guard name.hasPrefix(prefix) else { return nil }
  return Int(name.dropFirst(prefix.count).prefix { $0 != "." })
}

extension TensorSpec {
  /// Whether it belongs to the vision encoder or the projector.
  var isVision: Bool {
    switch section {
    case .visionEmbedding, .visionLayer, .deepstack, .projector: true
    case .embedding, .decoderLayer, .head: false
    }
  }

  /// The shape a source has, but for those that `vision` shapes in another way: vectors have one
  /// dimension.
  func sourceShape(_ vision: (any VisionSource)?) -> [Int] {
    if isVision, let shape = vision?.shape(of: self) { return shape }
    return role == .small && shape.rows == 1 ? [shape.columns] : [shape.rows, shape.columns]
  }
}
