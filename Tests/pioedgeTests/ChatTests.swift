import Foundation
import Testing

/// The chat, on a terminal of its own.
struct ChatTests {
  /// What the tool writes to stdout when these lines are typed.
  private func chat(_ arguments: [String], _ lines: [String]) throws -> (
    output: String, error: String
  ) {
    let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    var (unlocked, number): (CInt, CInt) = (0, 0)
    // TIOCSPTLCK and TIOCGPTN of Linux's ioctl_tty(2): unlock the other end, ask for its number.
    try #require(
      terminal >= 0 && ioctl(terminal, 0x4004_5431, &unlocked) == 0
        && ioctl(terminal, 0x8004_5430, &number) == 0)
    let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY)
    try #require(slave >= 0)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: Tool.executable)
    process.arguments = ["run", Tool.demo] + arguments
    process.standardInput = FileHandle(fileDescriptor: slave, closeOnDealloc: true)
    let (stdout, stderr) = (Pipe(), Pipe())
    process.standardOutput = stdout
    process.standardError = stderr
    try process.run()
    let typed = lines.map { $0 + "\n" }.joined() + "/quit\n"
    FileHandle(fileDescriptor: terminal, closeOnDealloc: false).write(Data(typed.utf8))
    let output = stdout.fileHandleForReading.readDataToEndOfFile()
    let error = stderr.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    close(terminal)
    #expect(process.terminationStatus == 0)
    return (String(decoding: output, as: UTF8.self), String(decoding: error, as: UTF8.self))
  }

  private func answer(_ picture: String, _ question: String) -> String {
    let result = Tool.run(["run", Tool.demo, "--image", Tool.picture(picture), question])
    return String(result.output.dropLast())
  }

  private let first = "scene-0002-336x336.png"
  private let second = "scene-0014-640x480.png"

  @Test func thePictureStaysResetForgetsAndImageShowsAnother() throws {
    let question = "What does the text say?"
    let (output, error) = try chat(
      ["--images", "3", "--stats", "--image", Tool.picture(first)],
      [
        question, "How many circles are there?", "/reset", question,
        "/image \(Tool.picture(second))", "Describe the image.", "/reset", "Describe the image.",
      ])
    let turns = output.split(separator: "\n").map { $0.replacingOccurrences(of: "> ", with: "") }
    try #require(turns.count >= 5, "\(output)")
    #expect(turns[0] == answer(first, question))
    #expect(turns[2] == turns[0])
    #expect(turns[4] == answer(second, "Describe the image."))
    // The second turn computed its own tokens and the end of the first answer, not the picture again.
    let prefills = error.split(separator: "\n").compactMap { line in
      line.split(separator: ",").first { $0.contains("prefill") }
        .flatMap { $0.split(separator: " ").compactMap { Int($0) }.first }
    }
    try #require(prefills.count == 5, "\(error)")
    #expect(prefills[0] > 576 && prefills[1] < 40 && prefills[3] > 576)
  }

  @Test func mistakesAreSaidAndTheChatGoesOn() throws {
    let (output, error) = try chat(
      ["--image", Tool.picture(first)],
      [
        "/image /nonexistent.png", "What is it?", "/nonsense", "/image",
        "/image \(Tool.picture(first))", "What does the text say?",
      ])
    #expect(error.contains("/nonexistent.png") && error.contains("/nonsense is not known"))
    #expect(output.contains(answer(first, "What does the text say?")))
  }
}
