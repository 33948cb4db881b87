import PIOBase
import Glibc

/// What a model said in one setting.
public struct Answer: Equatable, Sendable {
  public let text: String
  public let prefillMilliseconds: Double

  public init(text: String, prefillMilliseconds: Double) {
    self.text = text
    self.prefillMilliseconds = prefillMilliseconds
  }
}

/// Answers that are kept as they come, so that an evaluation that was killed goes on where it was.
///
/// A file of JSON lines that only grows. A line names setting and question by digests of everything that decides the
/// answer: another model, other settings or another image find nothing here, and do no harm. A last line that was
/// torn off is cut away; one process at a time has the file.
public final class AnswerLog {
  public struct Key: Hashable, Sendable {
    public let setting: UInt64
    public let question: UInt64

    public init(setting: UInt64, question: UInt64) {
      self.setting = setting
      self.question = question
    }
  }

  private let path: String?
  private let descriptor: Int32
  private var answers: [Key: Answer]
  private var failure: Int32 = 0

  private static let maxLineBytes = 1 << 22

  /// Nil: nothing is kept.
  public init(path: String?) throws(EvalError) {
    self.path = path
    guard let path else {
      descriptor = -1
      answers = [:]
      return
    }
    let opened = try AnswerLog.open(path)
    do {
      answers = try AnswerLog.read(path, opened)
    } catch {
      close(opened)
      throw error
    }
    descriptor = opened
  }

  deinit {
    if descriptor >= 0 { close(descriptor) }
  }

  public var count: Int { answers.count }

  public subscript(key: Key) -> Answer? { answers[key] }

  /// In the file when this returns, in one write.
  public func append(_ new: [(key: Key, answer: Answer)]) throws(EvalError) {
    for (key, answer) in new { answers[key] = answer }
    guard let path, !new.isEmpty else { return }
    var text = ""
    for (key, answer) in new {
      text += "{\"setting\":\"\(hexadecimal(key.setting))\","
      text += "\"question\":\"\(hexadecimal(key.question))\","
      text += "\"prefill_ms\":\(rounded(answer.prefillMilliseconds)),"
      text += "\"answer\":\(jsonString(answer.text))}\n"
    }
    let code = text.withUTF8 { bytes -> Int32 in
      var done = 0
      while done < bytes.count {
        let count = write(descriptor, bytes.baseAddress! + done, bytes.count - done)
        if count < 0 && errno != EINTR { return errno }
        done += max(0, count)
      }
      return 0
    }
    guard code == 0 else { throw .cannotWrite(path: path, errno: code) }
  }

  private static func open(_ path: String) throws(EvalError) -> Int32 {
    let descriptor = Glibc.open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0o644)
    guard descriptor >= 0 else { throw .cannotWrite(path: path, errno: errno) }
    var status = stat()
    guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
      close(descriptor)
      throw .notAFile(path: path)
    }
    guard flock(descriptor, LOCK_EX | LOCK_NB) == 0 else {
      close(descriptor)
      throw .answersInUse(path: path)
    }
    return descriptor
  }

  private static func read(_ path: String, _ descriptor: Int32) throws(EvalError) -> [Key: Answer] {
    var answers: [Key: Answer] = [:]
    var wholeBytes = 0
    var isTorn = false
    try LineFile(path: path, maxLineBytes: maxLineBytes).forEach {
      (number, line, isWhole) throws(EvalError) in
      guard isWhole else {
        isTorn = true
        return false
      }
      guard let (key, answer) = parse(line) else {
        throw .badLine(
          path: path, line: number, problem: "not an answer that an evaluation has kept")
      }
      answers[key] = answer
      wholeBytes += line.count + 1
      return true
    }
    // What a killed run did not finish.
    if isTorn, ftruncate(descriptor, off_t(wholeBytes)) != 0 {
      throw .cannotWrite(path: path, errno: errno)
    }
    return answers
  }

  private static func parse(_ line: ArraySlice<UInt8>) -> (Key, Answer)? {
    let value = try? line.withUnsafeBytes { bytes throws(JSONError) in
      try JSONReader.parse(bytes, nodeLimit: 16)
    }
    guard case .object(let members) = value,
      case .string(let setting) = members["setting"], let setting = UInt64(setting, radix: 16),
      case .string(let question) = members["question"], let question = UInt64(question, radix: 16),
      case .string(let text) = members["answer"]
    else { return nil }
    let milliseconds: Double
    switch members["prefill_ms"] {
    case .integer(let value): milliseconds = Double(value)
    case .number(let value): milliseconds = value
    default: return nil
    }
    return (
      Key(setting: setting, question: question),
      Answer(text: text, prefillMilliseconds: milliseconds)
    )
  }
}

/// Sixteen digits.
func hexadecimal(_ value: UInt64) -> String {
  let digits = String(value, radix: 16)
  return String(repeating: "0", count: 16 - digits.count) + digits
}

/// To a thousandth, and finite.
func rounded(_ value: Double) -> Double {
  guard value.isFinite, abs(value) < 1e12 else { return 0 }
  return (value * 1000).rounded() / 1000
}

/// A JSON string. Source: RFC 8259, section 7.
func jsonString(_ text: String) -> String {
  var out = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": out += "\\\""
    case "\\": out += "\\\\"
    case "\n": out += "\\n"
    case "\r": out += "\\r"
    case "\t": out += "\\t"
    case _ where scalar.value < 0x20:
      out += "\\u00" + (scalar.value < 16 ? "0" : "") + String(scalar.value, radix: 16)
    default: out.unicodeScalars.append(scalar)
    }
  }
  return out + "\""
}
