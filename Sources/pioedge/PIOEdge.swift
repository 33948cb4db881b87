import ArgumentParser
import PIOBase
import PIOConvert
import PIORuntime

/// What every command may do to the process: it is ours.
let host = HostPolicy.command

/// The last line of a command's discussion.
func everyOption(_ command: String) -> String {
  "These are the options that most people need; `pioedge \(command) --help-hidden` lists all."
}

@main
struct PIOEdge: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pioedge",
    abstract: "Vision-language models on small boards, inside a memory cap.",
    version: converterName,
    subcommands: [
      ConvertCommand.self, RunCommand.self, PlanCommand.self, BenchCommand.self, EvalCommand.self,
      InspectCommand.self,
    ])

  static func main() {
    // While there is one thread: the environment is changed.
    host.apply()
    main(nil)
  }
}
