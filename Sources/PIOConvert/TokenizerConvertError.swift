import Glibc
import PIOBase
import PIOFormat

/// Why a checkpoint's tokenizer cannot be converted.
public enum TokenizerConvertError: Error, Equatable, Sendable, CustomStringConvertible {
  case cannotRead(file: String, errno: Int32)
  /// A folder, a pipe, a device.
  case notAFile(file: String)
  case tooLarge(file: String, byteCount: Int, limit: Int)
  case badJSON(file: String, offset: Int)
  /// Something is not there, or is not what it must be.
  case invalid(file: String, problem: String)
  /// Something the runtime has no code for.
  case unsupported(file: String, what: String)
  case idOutOfRange(token: String, id: Int, vocabSize: Int)
  case unknownChatTemplate(file: String)
  case noChatTemplate
  case noSuchChatTemplate(name: String)
  case section(TokenizerSectionError)

  public var description: String {
    switch self {
    case .cannotRead(let file, let errno): "\(file): \(String(cString: strerror(errno)))"
    case .notAFile(let file): "\(file) is not a regular file"
    case .tooLarge(let file, let found, let limit):
      "\(file) has \(grouped(found)) bytes, more than \(grouped(limit))"
    case .badJSON(let file, let offset): "\(file) is not valid JSON at byte \(offset)"
    case .invalid(let file, let problem): "\(file): \(problem.shortened)"
    case .unsupported(let file, let what): "\(file): \(what.shortened) is not supported"
    case .idOutOfRange(let token, let id, let vocabSize):
      "tokenizer: token '\(token.shortened)' has id \(id), the embedding table has \(vocabSize) rows"
    case .unknownChatTemplate(let file):
      "\(file): unknown chat template; choose one with --chat-template NAME (\(Self.names))"
    case .noChatTemplate:
      "the checkpoint has no chat template; choose one with --chat-template NAME (\(Self.names))"
    case .noSuchChatTemplate(let name):
      "unknown --chat-template '\(name.shortened)'; known are \(Self.names)"
    case .section(let error): "tokenizer: \(error)"
    }
  }

  private static var names: String { chatTemplateNames.joined(separator: ", ") }
}
