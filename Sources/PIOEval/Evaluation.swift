import Glibc
import PIOFormat
import PIORuntime
import PIOVision

/// Asks every question in every setting, images one after another, each encoded once.
///
/// The module knows `PIOVision` for the error of an image that cannot be read.
public struct Evaluation: Sendable {
  public let questions: QuestionSet
  public let comparison: Comparison
  /// Where the images are.
  public let folder: String
  /// Most tokens of an answer.
  public let maxTokens: Int
  /// Everything else that decides an answer: model, arithmetic, how images are made square.
  public let identity: String

  public init(
    questions: QuestionSet, comparison: Comparison, folder: String, maxTokens: Int,
    identity: String
  ) {
    self.questions = questions
    self.comparison = comparison
    self.folder = folder
    self.maxTokens = maxTokens
    self.identity = identity
  }

  /// Questions times settings.
  public var answerCount: Int { questions.questions.count * comparison.settings.count }

  /// The ways to prune that a runtime must be planned for.
  public var prunings: [Pruning] { comparison.settings.map(\.pruning) }

  /// Asks what `log` has no answer to, and returns all answers: for each setting those of each question.
  ///
  /// `progress` gets how many answers this run has given, of how many that were missing.
  public func run(
    _ runtime: Runtime, _ slot: Slot, _ log: AnswerLog, progress: (Int, Int) -> Void
  ) throws(EvalError) -> [[Answer]] {
    let keys = try AnswerKeys(self)
    let missing = order.reduce(0) { sum, asked in
      sum + comparison.settings.indices.count { log[keys[$0, asked]] == nil }
    }
    var asker = Asker(evaluation: self)
    var done = 0
    progress(0, missing)
    for asked in order {
      var new: [(key: AnswerLog.Key, answer: Answer)] = []
      for setting in comparison.settings.indices where log[keys[setting, asked]] == nil {
        new.append((keys[setting, asked], try asker.ask(runtime, slot, asked, setting)))
        done += 1
        progress(done, missing)
      }
      try log.append(new)
    }
    return answers(log, keys)
  }

  private func answers(_ log: AnswerLog, _ keys: AnswerKeys) -> [[Answer]] {
    let none = Answer(text: "", prefillMilliseconds: 0)
    var answers = [[Answer]](
      repeating: [Answer](repeating: none, count: questions.questions.count),
      count: comparison.settings.count)
    for asked in order {
      for setting in comparison.settings.indices {
        answers[setting][asked.question] = log[keys[setting, asked]] ?? none
      }
    }
    return answers
  }

  /// A question and the image it is about.
  fileprivate struct Asked {
    let image: Int
    let question: Int
  }

  /// Image after image, so that each is encoded once.
  private var order: some Sequence<Asked> {
    questions.images.indices.lazy.flatMap { image in
      questions.images[image].questions.lazy.map { Asked(image: image, question: $0) }
    }
  }

  fileprivate func path(of image: String) -> String { "\(folder)/\(image)" }

  /// The image that stands for a wrong one: the next.
  fileprivate func wrong(_ image: Int) -> Int { (image + 1) % questions.images.count }
}

/// Under which names the answers are kept.
private struct AnswerKeys {
  private let evaluation: Evaluation
  private let settings: [UInt64]
  private let images: [UInt64]

  /// Reads every image once.
  init(_ evaluation: Evaluation) throws(EvalError) {
    self.evaluation = evaluation
    settings = evaluation.comparison.settings.map {
      digest("\(evaluation.identity) \($0.identity)")
    }
    var images: [UInt64] = []
    for image in evaluation.questions.images {
      images.append(try fileDigest(evaluation.path(of: image.image)))
    }
    self.images = images
  }

  subscript(setting: Int, asked: Evaluation.Asked) -> AnswerLog.Key {
    let text = evaluation.questions.questions[asked.question].text
    let seen =
      switch evaluation.comparison.settings[setting].image {
      case .own: hexadecimal(images[asked.image])
      case .grey: "grey"
      case .wrong: hexadecimal(images[evaluation.wrong(asked.image)])
      }
    return AnswerLog.Key(setting: settings[setting], question: digest("\(seen) \(text)"))
  }
}

/// Keeps the encoded images that the next question may need.
private struct Asker {
  let evaluation: Evaluation
  private var encoded: [(name: String, encoding: String, image: EncodedImage)] = []

  init(evaluation: Evaluation) { self.evaluation = evaluation }

  mutating func ask(
    _ runtime: Runtime, _ slot: Slot, _ asked: Evaluation.Asked, _ setting: Int
  ) throws(EvalError) -> Answer {
    let entry = evaluation.questions.questions[asked.question]
    let setting = evaluation.comparison.settings[setting]
    do {
      runtime.reset(slot)
      let image = try encoding(runtime, asked.image, setting)
      let tokens = try runtime.turnTokens(entry.text, system: nil, imageCount: 1, isFirst: true)
      var request = Request(
        tokens: tokens, images: [.file(evaluation.path(of: entry.image))],
        maxTokens: evaluation.maxTokens)
      request.pruning = setting.pruning
      request.encodedImages = [image]
      var text: [UInt8] = []
      let generation = try runtime.generate(slot, request) {
        text += $0
        return true
      }
      return Answer(
        text: trimmed(String(decoding: text, as: UTF8.self)),
        prefillMilliseconds: generation.prefill.milliseconds)
    } catch {
      throw .runtime(image: entry.image, error)
    }
  }

  /// The image that a setting shows, encoded once for all that get it whole.
  private mutating func encoding(
    _ runtime: Runtime, _ image: Int, _ setting: Comparison.Setting
  ) throws(RuntimeError) -> EncodedImage {
    let images = evaluation.questions.images
    let own = images[image].image
    let other = images[evaluation.wrong(image)].image
    let name: String
    switch setting.image {
    case .own: name = own
    case .wrong: name = other
    case .grey: name = ""
    }
    let encoding = setting.pruning.method.zips ? setting.identity : ""
    if let known = encoded.first(where: { $0.name == name && $0.encoding == encoding }) {
      return known.image
    }
    // Another image stays for as long as a control shows it, and whole.
    let showsOther = evaluation.comparison.settings.contains { $0.image == .wrong }
    encoded.removeAll {
      $0.name != own && !$0.name.isEmpty
        && !(showsOther && $0.name == other && $0.encoding.isEmpty)
    }
    let image: EncodedImage
    if setting.image == .grey {
      image = try greyEncoding(runtime, setting.pruning)
    } else {
      image = try runtime.encode(.file(evaluation.path(of: name)), setting.pruning)
    }
    encoded.append((name, encoding, image))
    return image
  }

  private func greyEncoding(
    _ runtime: Runtime, _ pruning: Pruning
  ) throws(RuntimeError) -> EncodedImage {
    do {
      return try SampleImage.withGreyFile { try runtime.encode(.file($0), pruning) }
    } catch let error as RuntimeError {
      throw error
    } catch let error as ImageError {
      throw .image(error)
    } catch {
      preconditionFailure("a grey image: \(error)")
    }
  }
}

/// Without white space at both ends.
private func trimmed(_ text: String) -> String {
  let start = text.drop { $0.isWhitespace }
  guard let last = start.lastIndex(where: { !$0.isWhitespace }) else { return "" }
  return String(start[...last])
}

private func digest(_ text: String) -> UInt64 {
  var text = text
  return text.withUTF8 { XXH64.hash(UnsafeRawBufferPointer($0)) }
}

/// Of a regular file's bytes, read in bounded memory.
private func fileDigest(_ path: String) throws(EvalError) -> UInt64 {
  let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
  guard descriptor >= 0 else { throw .cannotRead(path: path, errno: errno) }
  defer { close(descriptor) }
  var status = stat()
  guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
    throw .notAFile(path: path)
  }
  var hash = XXH64()
  var buffer = [UInt8](repeating: 0, count: 1 << 16)
  while true {
    let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    if count < 0 && errno == EINTR { continue }
    guard count >= 0 else { throw .cannotRead(path: path, errno: errno) }
    if count == 0 { return hash.value }
    buffer[..<count].withUnsafeBytes { hash.update($0) }
  }
}
