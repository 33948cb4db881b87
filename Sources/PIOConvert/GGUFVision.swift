import PIOBase
import PIOFormat

/// The vision encoder's and the projector's numbers, from an `mmproj` file: architecture `clip`,
/// projector `mlp`, as llama.cpp's converters write it for LLaVA-1.5 and 1.6.
extension GGUFFile {
  func visionConfig(textDim: Int) throws(ConvertError) -> VisionConfig {
    try checkProjector()
    var llava = LLaVAConfig()
    let (prefix, dims) = ("clip.vision.", 1...(1 << 20))
    llava.tower.dim = try needed(prefix + "embedding_length", in: dims)
    llava.tower.hiddenDim = try needed(prefix + "feed_forward_length", in: dims)
    llava.tower.headCount = try needed(prefix + "attention.head_count", in: 1...4096)
    guard llava.tower.dim % llava.tower.headCount == 0 else {
      throw failure(prefix + "embedding_length", "is no multiple of the number of heads")
    }
    llava.tower.patchSize = try needed(prefix + "patch_size", in: 1...1024)
    llava.tower.imageSize = try needed(prefix + "image_size", in: llava.tower.patchSize...8192)
    guard llava.tower.imageSize % llava.tower.patchSize == 0 else {
      throw failure(prefix + "image_size", "is no multiple of clip.vision.patch_size")
    }
    llava.tower.layerNormEpsilon =
      Float(try number(prefix + "attention.layer_norm_epsilon") ?? 1e-5)
    guard try !bool("clip.use_silu", default: false) else {
      throw failure("clip.use_silu", "is not supported")
    }
    llava.tower.activation = try bool("clip.use_gelu", default: false) ? .gelu : .quickGelu
    llava.tower.layerCount = try featureLayer(dim: llava.tower.dim)
    guard let first = tensor("mm.0.weight") else { throw .missingTensor(name: "mm.0.weight") }
    guard first.shape.count == 2, dims.contains(first.shape[0]) else {
      throw .wrongShape(tensor: first.name, needed: [textDim, llava.tower.dim], found: first.shape)
    }
    llava.projector.hiddenDim = first.shape[0]
    llava.projector.bias = tensor("mm.0.bias") != nil
    let resolutions = try resolutions(imageSize: llava.tower.imageSize)
    llava.preprocessing = try preprocessing(
      imageSize: llava.tower.imageSize, isTiled: !resolutions.isEmpty)
    guard !resolutions.isEmpty else { return .llava(llava) }
    var next = LLaVANextConfig()
    next.tower = llava.tower
    next.projector = llava.projector
    next.preprocessing = llava.preprocessing
    next.resolutions = resolutions
    return .llavaNext(next)
  }

  private func checkProjector() throws(ConvertError) {
    let architecture = try text("general.architecture") ?? "missing"
    guard architecture == "clip" else {
      throw failure(
        "general.architecture",
        "'\(architecture.shortened)' is not that of a vision encoder with projector (clip is)")
    }
    guard try bool("clip.has_vision_encoder", default: true) else {
      throw failure("clip.has_vision_encoder", "is false")
    }
    for key in ["clip.projector_type", "clip.vision.projector_type"] {
      if let type = try text(key), type != "mlp" {
        throw failure(key, "'\(type.shortened)' is not supported (mlp, of LLaVA-1.5 and 1.6, is)")
      }
    }
  }

  /// LLaVA-1.6's resolutions; none: an image is one tile, as in LLaVA-1.5.
  ///
  /// The numbers are read in the order of `transformers`, height first: published lists hold either
  /// way up, and so the pair's answers are those of the checkpoint in its other form.
  private func resolutions(imageSize: Int) throws(ConvertError) -> [PixelSize] {
    let (merge, key) = ("clip.vision.mm_patch_merge_type", "clip.vision.image_grid_pinpoints")
    let type = try text(merge) ?? "flat"
    guard type == "flat" || type == "spatial_unpad" else {
      throw failure(merge, "'\(type.shortened)' is not supported (flat, spatial_unpad are)")
    }
    guard let edges = try numbers(key, atMost: 128), !edges.isEmpty else {
      guard type == "flat" else { throw failure(key, "is missing, with \(merge) \(type)") }
      return []
    }
    guard type == "spatial_unpad" else {
      throw failure(merge, "'\(type)' is not supported with \(key)")
    }
    let whole = edges.compactMap { Int(exactly: $0) }
    guard whole.count == edges.count, whole.count % 2 == 0,
      whole.allSatisfy({ (1...8192).contains($0) && $0 % imageSize == 0 })
    else { throw failure(key, "is no list of resolutions that tiles of \(imageSize) fill") }
    return stride(from: 0, to: whole.count, by: 2).map {
      PixelSize(height: whole[$0], width: whole[$0 + 1])
    }
  }

  /// How many layers run. A file that does not say which layer's output is the feature means the
  /// last but one of the encoder it was made from.
  ///
  /// Converters have written these files in two ways: with all layers of the encoder, or without
  /// the last one, which no image reaches. The second kind is known by a layer more than it
  /// counts, or by the 23 layers it has of CLIP ViT-L's 24.
  private func featureLayer(dim: Int) throws(ConvertError) -> Int {
    let blocks = try needed("clip.vision.block_count", in: 1...1024)
    let key = "clip.vision.feature_layer"
    if let layers = try numbers(key, atMost: 64) {
      guard layers.count == 1, let layer = Int(exactly: layers[0]), (0...blocks).contains(layer)
      else { throw failure(key, "is not one of \(blocks) layers") }
      return layer
    }
    let isCut = tensor("v.blk.\(blocks).ln1.weight") != nil || (dim == 1024 && blocks == 23)
    return isCut ? blocks : blocks - 1
  }

  /// As LLaVA-1.5 was trained: padded to a square with the mean colour, resized bicubically. A tile with the whole
  /// image is stretched.
  private func preprocessing(
    imageSize: Int, isTiled: Bool
  ) throws(ConvertError) -> ImagePreprocessing {
    var steps = ImagePreprocessing()
    let key = "clip.vision.image_aspect_ratio"
    switch try text(key) ?? (isTiled ? "anyres" : "pad") {
    case "anyres" where isTiled: steps.fit = .stretch
    case "pad" where !isTiled: steps.fit = .pad
    case "square" where !isTiled: steps.fit = .crop
    case let ratio: throw failure(key, "'\(ratio.shortened)' is not supported (pad, square are)")
    }
    steps.resizeTo = imageSize
    let mean = try triple("clip.vision.image_mean", in: -1e6...1e6)
    steps.std = try triple("clip.vision.image_std", in: 1e-6...1e6)
    steps.mean = mean
    func color(_ mean: Float) -> UInt8 { UInt8(min(max(Double(mean) * 255, 0), 255)) }
    steps.padColor = (color(mean.0), color(mean.1), color(mean.2))
    return steps
  }

  private func triple(
    _ key: String, in range: ClosedRange<Double>
  ) throws(ConvertError) -> (Float, Float, Float) {
    guard let numbers = try numbers(key, atMost: 3) else { throw failure(key, "is missing") }
    guard numbers.count == 3, numbers.allSatisfy(range.contains) else {
      throw failure(key, "is not three numbers in \(range.lowerBound)…\(range.upperBound)")
    }
    return (Float(numbers[0]), Float(numbers[1]), Float(numbers[2]))
  }
}
