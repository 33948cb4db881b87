import ArgumentParser

@main
struct PIOEdge: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pioedge",
    abstract: "Vision-language models on small boards, inside a memory cap.",
    subcommands: [
      ConvertCommand.self, RunCommand.self, PlanCommand.self, BenchCommand.self, EvalCommand.self,
      InspectCommand.self,
    ])
}
