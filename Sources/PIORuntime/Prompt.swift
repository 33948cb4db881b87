import PIOFormat
import PIOVision

/// One turn that its slot has room for, before anything is computed.
struct Prompt {
  let tokens: [Int32]
  let images: [PromptImage]
  /// Of each image.
  let layouts: [VisualLayout]
  /// New rows of text, a last token that was sampled and not run among them.
  let textRowCount: Int
  let pruning: Pruning
  /// Visual tokens of all images, and how many of them enter the decoder.
  let visualTokenCount: Int
  let entryCount: Int
  let schedule: Schedule

  init(_ request: Request, in slot: SlotState, _ model: Model) throws(RuntimeError) {
    let limits = model.plan.limits
    let imageToken = model.config.specialTokens.image
    let imageCount =
      imageToken < 0 ? 0 : request.tokens.reduce(0) { $0 + ($1 == imageToken ? 1 : 0) }
    try Self.checkImages(request, imageCount, slot, model)
    textRowCount = request.tokens.count - imageCount + (slot.pending == nil ? 0 : 1)
    try Self.checkText(request, textRowCount, slot, model)
    pruning = request.pruning ?? limits.pruning
    guard limits.prunings.contains(pruning) else { throw .pruningNotPlanned }
    if request.tokens.last == imageToken, imageCount > 0, pruning.prunes {
      throw .prunedPromptEndsWithImage
    }
    tokens = request.tokens
    images = try Self.open(request, model)
    layouts = images.map(\.layout)
    visualTokenCount = layouts.reduce(0) { $0 + $1.tokenCount }
    (entryCount, schedule) = try Self.route(pruning, visualTokenCount, model)
  }

  private static func checkImages(
    _ request: Request, _ imageCount: Int, _ slot: SlotState, _ model: Model
  ) throws(RuntimeError) {
    guard request.images.isEmpty || model.config.vision != nil else { throw .modelTakesNoImages }
    guard imageCount == request.images.count else {
      throw .imageCount(placeholders: imageCount, images: request.images.count)
    }
    let limit = model.plan.limits.imageCount
    guard slot.imageCount + imageCount <= limit else {
      throw .tooManyImages(needed: slot.imageCount + imageCount, limit: limit)
    }
  }

  private static func checkText(
    _ request: Request, _ rowCount: Int, _ slot: SlotState, _ model: Model
  ) throws(RuntimeError) {
    let contextRows = model.plan.limits.contextRows
    let free = contextRows - slot.textRows
    guard request.tokens.count > 0 else { throw .emptyPrompt }
    // One row stays for the answer.
    guard rowCount < free else {
      throw .promptTooLong(neededRows: rowCount + 1, freeRows: free, contextRows: contextRows)
    }
    let vocabSize = model.config.text.vocabSize
    for token in request.tokens where token < 0 || Int(token) >= vocabSize {
      throw .tokenOutOfRange(id: token, vocabSize: vocabSize)
    }
  }

  /// Each image's header, read once: what the plan's answer to it depends on cannot change any more.
  private static func open(_ request: Request, _ model: Model) throws(RuntimeError)
    -> [PromptImage]
  {
    var images: [PromptImage] = []
    for (index, image) in request.images.enumerated() {
      if index < request.encodedImages.count {
        images.append(.encoded(request.encodedImages[index]))
      } else {
        images.append(try model.open(image))
      }
    }
    return images
  }

  private static func route(
    _ pruning: Pruning, _ tokenCount: Int, _ model: Model
  ) throws(RuntimeError) -> (entryCount: Int, schedule: Schedule) {
    do {
      return try pruning.route(
        tokenCount: tokenCount, layerCount: model.config.text.layerCount)
    } catch {
      throw .schedule(error)
    }
  }

  /// What the encoder hands over of image `index`, in proportion to its tokens; nil: all of them.
  func encoderShare(of index: Int) -> Int? {
    guard pruning.method.zips, entryCount < visualTokenCount else { return nil }
    func owed(_ images: Int) -> Int {
      let seen = layouts[..<images].reduce(0) { $0 + $1.tokenCount }
      return (entryCount * seen + visualTokenCount / 2) / visualTokenCount
    }
    return owed(index + 1) - owed(index)
  }

  /// Those that go through the encoder.
  func preparedImages(_ vision: VisionConfig?) -> [PreparedImage] {
    guard let vision else { return [] }
    return images.compactMap { image in
      guard case .open(_, let loaded) = image else { return nil }
      return PreparedImage(loaded, vision)
    }
  }

  /// Whether an image goes through the encoder.
  var needsEncoder: Bool {
    images.contains { image in if case .open = image { true } else { false } }
  }
}

/// An image of a prompt: its header is read, or it is encoded already.
enum PromptImage {
  case open(OpenImage, LoadedImage)
  case encoded(EncodedImage)

  var layout: VisualLayout {
    switch self {
    case .open(_, let image): image.layout
    case .encoded(let image): image.layout
    }
  }
}
