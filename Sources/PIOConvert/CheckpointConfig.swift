import PIOBase
import PIOFormat

/// What a folder's configuration files say, as far as it runs here.
///
/// Keys that are absent take the defaults of the `transformers` configuration classes (5.x):
/// published files leave out what equals them.
struct CheckpointConfig {
  var text: TextConfig
  let rope: RotaryFrequencies
  /// Nil for a decoder alone.
  let visionSource: (any CheckpointVision)?
  /// What `<image>` is in the token stream; nil for a decoder alone.
  let imageTokenID: Int?

  var vision: VisionConfig? { visionSource?.config }

  init(folder: String) throws(ConvertError) {
    let root = try ConfigObject(folder: folder, file: "config.json")
    let family = try ModelFamily(root)
    try root.refuseQuantized()
    try root.checkArchitecture(family.architectures)
    switch family {
    case .decoder(let family):
      (text, rope) = try root.textConfig(family)
      (visionSource, imageTokenID) = (nil, nil)
    case .vision(let family):
      (text, rope) = try family.textConfig(root)
      visionSource = try family.init(root, folder: folder, textDim: text.dim)
      imageTokenID = try root.imageTokenID(
        default: family.defaultImageTokenID, vocabSize: text.vocabSize)
    }
  }
}

extension ConfigObject {
  func refuseQuantized() throws(ConvertError) {
    guard let quantization = try object("quantization_config") else { return }
    let method = try quantization.string("quant_method", default: "unknown")
    throw failure(
      "quantization_config",
      "('\(method.shortened)') is not supported: convert the checkpoint it was made from")
  }

  fileprivate func checkArchitecture(_ wanted: [String]) throws(ConvertError) {
    guard let architectures = self["architectures"] else { return }
    guard case .array(let names) = architectures,
      wanted.contains(where: { names.contains(.string($0)) })
    else {
      throw failure(
        "architectures",
        "\(architectures.quoted) is not supported (\(wanted.joined(separator: " or ")) is)")
    }
  }

  /// The decoder of a model with a vision encoder, in `text_config`.
  func innerTextConfig() throws(ConvertError) -> (TextConfig, RotaryFrequencies) {
    let inner =
      try object("text_config") ?? ConfigObject(file: file, path: "text_config.", members: [:])
    try inner.refuseQuantized()
    let type = try inner.string("model_type", default: "llama")
    guard let family = DecoderFamily(rawValue: type) else { throw inner.unsupported("model_type") }
    var (text, rope) = try inner.textConfig(family)
    text.tiedHead = try bool("tie_word_embeddings", default: text.tiedHead) || text.tiedHead
    return (text, rope)
  }

  fileprivate func imageTokenID(
    default id: Int, vocabSize: Int
  ) throws(ConvertError) -> Int {
    let key = self["image_token_index"] == nil ? "image_token_id" : "image_token_index"
    return try count(key, default: id, in: 0...vocabSize - 1)
  }
}
