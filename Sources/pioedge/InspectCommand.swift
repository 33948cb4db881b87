import ArgumentParser
import PIOFormat

struct InspectCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "inspect",
    abstract: "Show what is in a .piom file.",
    discussion: """
      Examples:
        pioedge inspect llava.piom
        pioedge inspect llava.piom --verify
        pioedge inspect llava.piom --tensors
        pioedge inspect llava.piom --json
        pioedge inspect --cpu                what this machine is, and which kernels run on it
      """)

  @Argument(help: "The .piom file.")
  var file: String?

  @Flag(help: "Check every byte of the tensors against its checksum.")
  var verify = false

  @Flag(help: "List every tensor.")
  var tensors = false

  @Flag(help: "Print one JSON object, tensors included.")
  var json = false

  @Flag(help: "Show the processor and the kernels that were chosen for it, instead of a file.")
  var cpu = false

  mutating func validate() throws {
    guard cpu != (file != nil) else {
      throw ValidationError(
        cpu ? "--cpu shows the machine and takes no file" : "a file is needed, or --cpu")
    }
    guard !cpu || !(verify || tensors) else {
      throw ValidationError("--verify and --tensors are about a file, --cpu is not")
    }
  }

  func run() throws {
    do {
      if let file {
        let model = try openModel(file)
        if verify { try verify(model) }
        try printOutput(
          json
            ? jsonText(ModelSummary(model, isVerified: verify))
            : modelText(model, path: file, tensors: tensors, isVerified: verify))
      } else {
        let report = try ProcessorReport()
        try printOutput(json ? jsonText(report) : report.text)
      }
    } catch {
      throw fail(error)
    }
  }

  private func verify(_ model: borrowing ModelFile) throws {
    var line = ProgressLine()
    var done = 0
    defer { line.clear() }
    for (i, tensor) in model.tensors.enumerated() {
      try model.verify(i)
      done += tensor.byteCount
      line.show("verifying", done: done, of: model.byteCount)
    }
  }
}
