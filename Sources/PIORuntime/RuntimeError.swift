import Glibc
import PIOFormat
import PIOThreads
import PIOVision

/// What can go wrong between a model file and an answer.
public enum RuntimeError: Error, Equatable, CustomStringConvertible {
  case tokenizer(TokenizerSectionError)
  case image(ImageError)
  case schedule(ScheduleError)
  /// The last row decides the answer: it cannot be one that pruning may drop.
  case prunedPromptEndsWithImage
  /// One of `Limits`' numbers, by the name it has there.
  case limitOutOfRange(name: String, value: Int, allowed: ClosedRange<Int>)
  /// The cap is too small. `smallest`: the least that would do; `remedies`: what would bring the need under the cap.
  case doesNotFit(cap: Int, smallest: Int, remedies: [String])
  case cannotReadWeights(errno: Int32)
  case cannotLockWeights(errno: Int32)
  /// All conversations that the plan has room for are under way.
  case noFreeSlot(slotCount: Int)
  /// The caller ended the work.
  case cancelled
  /// The session was not told of it when its memory was planned.
  case pruningNotPlanned
  case cannotMap(byteCount: Int, errno: Int32)
  case threads(ThreadError)
  case unknownISA(name: String, known: String)
  /// The kernels do not compute what their scalar twins do: a processor or a build that is not what it says.
  case kernelsDisagree(isa: String)
  /// A model without a vision tower was given an image.
  case modelTakesNoImages
  /// A model that cuts images into tiles was to make them square in one of the other ways.
  case fitOfTiles
  /// `PatchScore.cls` was asked of a vision encoder that has no class token.
  case noClassToken
  /// Rows of a model with M-RoPE cannot be renumbered.
  case positionsStay
  /// The vision encoder cannot drop tokens itself.
  case encoderKeepsAll(method: String)
  case imageCount(placeholders: Int, images: Int)
  case tooManyImages(needed: Int, limit: Int)
  case promptTooLong(neededRows: Int, freeRows: Int, contextRows: Int)
  case textTooLong(bytes: Int, maxBytes: Int)
  case emptyPrompt
  case contextTooLong(rows: Int, maxRows: Int)
  /// The logits are not numbers: damaged weights or scales.
  case nonFiniteLogits(position: Int)
  case tokenOutOfRange(id: Int32, vocabSize: Int)

  /// Whether no further turn can go better.
  public var isFatal: Bool {
    switch self {
    case .cannotReadWeights, .cannotLockWeights: true
    default: false
    }
  }

  public var description: String {
    switch self {
    case .tokenizer(let error): "tokenizer section: \(error)"
    case .image(let error): "\(error)"
    case .schedule(let error): "\(error)"
    case .prunedPromptEndsWithImage:
      "a prompt that ends with an image cannot be pruned; put text behind it, or use --prune none"
    case .limitOutOfRange(let name, let value, let allowed):
      "\(name) is \(value); it must be from \(allowed.lowerBound) to \(allowed.upperBound)"
    case .doesNotFit(let cap, let smallest, let remedies):
      "--memory-cap \(cap) is too small: the smallest that works here is \(smallest) bytes (\(mebibytes(smallest)))"
        + (remedies.isEmpty ? "" : "; what would help: " + remedies.joined(separator: ", "))
    case .cannotReadWeights(let errno):
      errno == EFAULT
        ? "the model file was cut short while it was in use"
        : "the model file can no longer be read (\(String(cString: strerror(errno))))"
    case .pruningNotPlanned: "the session's memory was not planned for this way of pruning"
    case .noFreeSlot(let count):
      "all \(count) slot\(count == 1 ? " is" : "s are") in use: a conversation has to end first"
    case .cancelled: "cancelled"
    case .cannotLockWeights(let errno):
      "--lock: the system does not let this process lock its weights (\(String(cString: strerror(errno)))); see ulimit -l"
    case .cannotMap(let byteCount, let errno):
      "cannot map \(byteCount) bytes of working memory (\(String(cString: strerror(errno)))); shorten --context"
    case .threads(let error): "\(error)\(error.wanted > 1 ? "; ask for fewer with --threads" : "")"
    case .unknownISA(let name, let known):
      "PIOEDGE_ISA=\(name) is not available on this processor; try \(known)"
    case .kernelsDisagree(let isa):
      "the \(isa) kernels failed their self-test on this processor; try PIOEDGE_ISA=scalar"
    case .modelTakesNoImages: "this model is a text decoder and takes no images"
    case .positionsStay:
      "--positions compact does not work with this model, whose visual tokens stand in lines and columns; use original"
    case .encoderKeepsAll(let method):
      "--prune \(method) does not work with this model's vision encoder; use pio"
    case .noClassToken:
      "--patch-score cls works only with vision encoders that have a class token; use received"
    case .fitOfTiles:
      "--fit works only with models whose images are one square, and no tiles"
    case .imageCount(let placeholders, let images):
      "the prompt has \(placeholders) <image> for \(images) image(s)"
    case .tooManyImages(let needed, let limit):
      "\(needed) images, planned for \(limit); raise --images (in a chat, /reset starts over)"
    case .promptTooLong(let needed, let free, let context):
      "the prompt needs \(needed) text rows, \(free) of \(context) are free; raise --context"
    case .textTooLong(let bytes, let maxBytes):
      "a prompt of \(bytes) bytes cannot fit: \(maxBytes) at most; raise --context"
    case .emptyPrompt: "the prompt is empty"
    case .contextTooLong(let rows, let maxRows):
      "--context and images need \(rows) positions, the model has \(maxRows)"
    case .nonFiniteLogits(let position):
      "the model's output at position \(position) is not a number: the weights may be damaged (`pioedge inspect --verify` checks them)"
    case .tokenOutOfRange(let id, let vocabSize):
      "token \(id) is outside the model's vocabulary of \(vocabSize)"
    }
  }
}

/// `12.3 MiB`.
public func mebibytes(_ bytes: Int) -> String {
  let tenths = (Double(bytes) / 104857.6).rounded()
  return "\(tenths / 10) MiB"
}
