import ArgumentParser
import PIOFormat
import PIORuntime

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Say where every byte of a run will go; nothing is run.",
    discussion: """
      Takes what `run` takes, with the same defaults. A run has three phases that share their memory: a picture is
      decoded, it is encoded, the decoder runs. The peak is the largest of them.

      Examples:
        pioedge plan llava.piom
        pioedge plan llava.piom --memory-cap 1GiB --visual-tokens 64
        pioedge plan llava.piom --memory-cap auto --chat
        pioedge plan llava.piom --kv int8 --context 512 --json

      Exit code 1: it does not fit under the cap.
      """)

  @Argument(help: ArgumentHelp("The .piom file.", valueName: "model"))
  var model: String

  @OptionGroup(title: "Session") var session: SessionOptions

  @Flag(help: "For a chat: room for several pictures, which come at any time.")
  var chat = false

  @Flag(help: "For `run --jsonl`: one conversation after another.")
  var jsonl = false

  @Flag(help: "JSON instead of a table.")
  var json = false

  func run() throws {
    do {
      try printPlan()
    } catch let error as ValidationError {
      throw error
    } catch let error as ExitCode {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private func printPlan() throws {
    let file = try ModelFile(path: model)
    let limits = try session.limits(
      for: file.config, images: 0, isChat: chat, isConversation: chat || jsonl, seed: 0)
    let sizes = ModelSizes(file, maxPieceBytes: try Engine.tokenizer(of: file).maxPieceByteCount)
    let process = ProcessMemory.measured(frontByteCount: sizes.frontByteCount)
    let plan = try MemoryPlan(sizes, limits: limits, process: process)
    let report = PlanReport(plan)
    try printOutput(json ? jsonLine(report) : report.table)
    if let cap = limits.memoryCap, !plan.fits {
      throw RuntimeError.doesNotFit(
        cap: cap, smallest: plan.smallestCapBytes,
        remedies: MemoryPlan.remedies(sizes, limits: limits, process: process))
    }
  }
}
