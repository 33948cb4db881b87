import Glibc
import PIOBase
import PIORuntime

/// What can go wrong between a file of questions and a report.
public enum EvalError: Error, Equatable, CustomStringConvertible {
  case cannotRead(path: String, errno: Int32)
  case cannotWrite(path: String, errno: Int32)
  case notAFile(path: String)
  case lineTooLong(path: String, line: Int, maxBytes: Int)
  case badLine(path: String, line: Int, problem: String)
  case tooManyQuestions(path: String, limit: Int)
  case tooManyFamilies(path: String, limit: Int)
  case noQuestions(path: String)
  /// Another process appends to the same answers.
  case answersInUse(path: String)
  case badVariant(text: String, problem: String)
  case nothingToCompare
  /// A question could not be asked.
  case runtime(image: String, RuntimeError)

  public var description: String {
    switch self {
    case .cannotRead(let path, let errno):
      "cannot read \(path): \(String(cString: strerror(errno)))"
    case .cannotWrite(let path, let errno):
      "cannot write \(path): \(String(cString: strerror(errno)))"
    case .notAFile(let path): "\(path) is not a regular file"
    case .lineTooLong(let path, let line, let maxBytes):
      "\(path), line \(line): longer than \(maxBytes) bytes"
    case .badLine(let path, let line, let problem): "\(path), line \(line): \(problem)"
    case .tooManyQuestions(let path, let limit):
      "\(path) has more than \(limit) questions; --limit takes the first ones"
    case .tooManyFamilies(let path, let limit):
      "\(path) has more than \(limit) families of questions"
    case .noQuestions(let path): "\(path) has no questions"
    case .answersInUse(let path): "\(path) is in use by another evaluation"
    case .badVariant(let text, let problem): "--prune '\(text.shortened)': \(problem)"
    case .nothingToCompare: "no way to prune works at any of these budgets"
    case .runtime(let image, let error): "\(image): \(error)"
    }
  }
}
