import PIOFormat
import PIOVision

/// What can go wrong between a model file and an answer.
public enum RuntimeError: Error, Equatable, CustomStringConvertible {
  case tokenizer(TokenizerSectionError)
  case image(ImageError)
  case schedule(ScheduleError)
  /// The last row decides the answer: it cannot be one that pruning may drop.
  case prunedPromptEndsWithPicture
  case cannotMap(byteCount: Int, errno: Int32)
  case unknownISA(name: String, known: String)
  /// The kernels do not compute what their scalar twins do: a processor or a build that is not what it says.
  case kernelsDisagree(isa: String)
  /// A model without a vision tower was given a picture.
  case modelTakesNoImages
  case imageCount(placeholders: Int, images: Int)
  case tooManyImages(needed: Int, limit: Int)
  case promptTooLong(neededRows: Int, freeRows: Int, contextRows: Int)
  case emptyPrompt
  case contextTooLong(rows: Int, maxRows: Int)
  /// The logits are not numbers: damaged weights or scales.
  case nonFiniteLogits(position: Int)
  case tokenOutOfRange(id: Int32, vocabSize: Int)

  public var description: String {
    switch self {
    case .tokenizer(let error): "tokenizer section: \(error)"
    case .image(let error): "\(error)"
    case .schedule(let error): "\(error)"
    case .prunedPromptEndsWithPicture:
      "a prompt that ends with a picture cannot be pruned; put text behind it, or use --prune none"
    case .cannotMap(let byteCount, let errno):
      "cannot map \(byteCount) bytes of working memory (errno \(errno)); shorten --context"
    case .unknownISA(let name, let known): "PIOEDGE_ISA=\(name) is not to be had here; try \(known)"
    case .kernelsDisagree(let isa):
      "the \(isa) kernels failed their self-test on this processor; try PIOEDGE_ISA=scalar"
    case .modelTakesNoImages: "this model is a text decoder and takes no pictures"
    case .imageCount(let placeholders, let images):
      "the prompt has \(placeholders) <image> for \(images) picture(s)"
    case .tooManyImages(let needed, let limit):
      "\(needed) pictures, planned for \(limit); raise --images (in a chat, /reset starts over)"
    case .promptTooLong(let needed, let free, let context):
      "the prompt needs \(needed) text rows, \(free) of \(context) are free; raise --context"
    case .emptyPrompt: "the prompt is empty"
    case .contextTooLong(let rows, let maxRows):
      "--context and pictures need \(rows) positions, the model has \(maxRows)"
    case .nonFiniteLogits(let position):
      "the model's output at position \(position) is not a number: damaged weights (inspect --verify tells)"
    case .tokenOutOfRange(let id, let vocabSize):
      "token \(id) is outside the model's vocabulary of \(vocabSize)"
    }
  }
}
