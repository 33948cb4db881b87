import Foundation
import Testing

/// The built `pioedge`, run as a person would.
enum Tool {
  struct Result {
    let status: Int32
    let output: String
    let error: String

    /// The last line of the output as a JSON object.
    var json: [String: Any] {
      let line = output.split(separator: "\n").last.map(String.init) ?? ""
      let object = try? JSONSerialization.jsonObject(with: Data(line.utf8))
      return object as? [String: Any] ?? [:]
    }
  }

  static let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  /// Beside the test bundle, wherever that was built.
  static let executable = URL(
    fileURLWithPath: try! FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
  ).deletingLastPathComponent().appendingPathComponent("pioedge").path

  /// A folder of this test run.
  static let scratch: URL = {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "pioedge-tool-tests-\(getpid())")
    try! FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(at: Tool.scratch) }
    return folder
  }()

  /// The demo checkpoint as int4, converted once by the tool itself.
  static let demo: String = {
    let path = scratch.appendingPathComponent("demo.piom").path
    let result = run([
      "convert", repository.appendingPathComponent("tools/demo/checkpoint").path, path,
      "--weights", "int4",
    ])
    precondition(result.status == 0, "converting the demo failed: \(result.error)")
    return path
  }()

  static func image(_ name: String) -> String {
    repository.appendingPathComponent("tools/demo/images/\(name)").path
  }

  /// `PIOEDGE_LAUNCHER` stands in front of the executable: empty, or an emulator with its options.
  static let command =
    (ProcessInfo.processInfo.environment["PIOEDGE_LAUNCHER"] ?? "")
    .split(separator: " ").map(String.init) + [executable]

  static func run(
    _ arguments: [String], input: String = "", environment: [String: String] = [:]
  ) -> Result {
    execute(command + arguments, input: input, environment: environment)
  }

  /// Calls `body` with a file of a golden checkpoint, int8, that is gone behind it.
  static func withModel(_ name: String, _ body: (String) throws -> Void) throws {
    let path = scratch.appendingPathComponent("\(name)-\(UUID().uuidString).piom").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    let source = repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)").path
    let made = run(["convert", source, path, "--weights", "int8"])
    try #require(made.status == 0, "\(made.error)")
    try body(path)
  }

  /// A line of the shell, whose standard input is empty.
  static func shell(_ line: String) -> Result { execute(["/bin/sh", "-c", line]) }

  /// Any program, by its path.
  static func execute(
    _ command: [String], input: String = "", environment: [String: String] = [:]
  ) -> Result {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: command[0])
    process.arguments = Array(command.dropFirst())
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let stdout = Pipe()
    // Files, so that nothing waits while the output is read, and an input that a refusal leaves unread does no harm.
    let errors = scratch.appendingPathComponent("stderr-\(UUID().uuidString)")
    let typed = scratch.appendingPathComponent("stdin-\(UUID().uuidString)")
    try! Data(input.utf8).write(to: typed)
    _ = FileManager.default.createFile(atPath: errors.path, contents: nil)
    process.standardInput = try! FileHandle(forReadingFrom: typed)
    process.standardOutput = stdout
    process.standardError = try! FileHandle(forWritingTo: errors)
    try! process.run()
    let output = stdout.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return Result(
      status: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
      error: String(decoding: try! Data(contentsOf: errors), as: UTF8.self))
  }

  /// `run` with the demo on a terminal of its own, where these lines are typed.
  static func chat(
    _ arguments: [String], _ lines: [String], environment: [String: String] = [:]
  ) throws -> Result {
    let terminal = open("/dev/ptmx", O_RDWR | O_NOCTTY)
    var (unlocked, number): (CInt, CInt) = (0, 0)
    // TIOCSPTLCK and TIOCGPTN of Linux's ioctl_tty(2): unlock the other end, ask for its number.
    try #require(
      terminal >= 0 && ioctl(terminal, 0x4004_5431, &unlocked) == 0
        && ioctl(terminal, 0x8004_5430, &number) == 0)
    let slave = open("/dev/pts/\(number)", O_RDWR | O_NOCTTY)
    try #require(slave >= 0)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: executable)
    process.arguments = ["run", demo] + arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
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
    return Result(
      status: process.terminationStatus, output: String(decoding: output, as: UTF8.self),
      error: String(decoding: error, as: UTF8.self))
  }
}
