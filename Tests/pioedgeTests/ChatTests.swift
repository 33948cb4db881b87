import Foundation
import Testing

/// The chat, on a terminal of its own.
struct ChatTests {
  /// What the tool writes when these lines are typed.
  private func chat(_ arguments: [String], _ lines: [String]) throws -> (
    output: String, error: String
  ) {
    let result = try Tool.chat(arguments, lines)
    #expect(result.status == 0)
    return (result.output, result.error)
  }

  private func answer(_ image: String, _ question: String) -> String {
    let result = Tool.run(["run", Tool.demo, "--image", Tool.image(image), question])
    return String(result.output.dropLast())
  }

  private let first = "scene-0002-336x336.png"
  private let second = "scene-0014-640x480.png"

  @Test func theImageStaysResetForgetsAndImageShowsAnother() throws {
    let question = "What does the text say?"
    let (output, error) = try chat(
      ["--images", "3", "--stats", "--image", Tool.image(first)],
      [
        question, "How many circles are there?", "/reset", question,
        "/image \(Tool.image(second))", "Describe the image.", "/reset", "Describe the image.",
      ])
    let turns = output.split(separator: "\n").map { $0.replacingOccurrences(of: "> ", with: "") }
    try #require(turns.count >= 5, "\(output)")
    #expect(turns[0] == answer(first, question))
    #expect(turns[2] == turns[0])
    #expect(turns[4] == answer(second, "Describe the image."))
    // The second turn computed its own tokens and the end of the first answer, not the image again.
    let prefills = error.split(separator: "\n").compactMap { line in
      line.split(separator: ",").first { $0.contains("prefill") }
        .flatMap { $0.split(separator: " ").compactMap { Int($0) }.first }
    }
    try #require(prefills.count == 5, "\(error)")
    #expect(prefills[0] > 576 && prefills[1] < 40 && prefills[3] > 576)
  }

  @Test func mistakesAreSaidAndTheChatGoesOn() throws {
    let (output, error) = try chat(
      ["--image", Tool.image(first)],
      [
        "/image /nonexistent.png", "What is it?", "/nonsense", "/image",
        "/image \(Tool.image(first))", "What does the text say?",
      ])
    #expect(error.contains("/nonexistent.png") && error.contains("/nonsense is not known"))
    #expect(output.contains(answer(first, "What does the text say?")))
  }

  /// More words than the context has rows, on one line of the terminal.
  @Test func anImageWaitsBehindAQuestionThatIsTooLong() throws {
    let long = String(repeating: "red ", count: 200)
    let (output, error) = try chat(
      ["--image", Tool.image(first), "--images", "3", "--context", "96"],
      ["/image \(Tool.image(second))", long, "Describe the image."])
    #expect(error.contains("error: "))
    #expect(output.contains(answer(second, "Describe the image.")), "\(output)")
  }
}
