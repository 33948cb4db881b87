import PIOBase
@testable import PIOEval

private let files = Files(["questions.jsonl"])

/// The input: lines of questions. What is accepted has an image's name inside its folder, and can be scored.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  files.fill(UnsafeBufferPointer(start: input, count: count))
  do {
    let read = try QuestionSet(path: files.folder + "/questions.jsonl")
    for question in read.questions {
      precondition(!question.image.hasPrefix("/"))
      precondition(!question.image.split(separator: "/").contains(".."))
      _ = question.score("yes")
    }
  } catch {
    checkLine(error)
  }
  return 0
}
