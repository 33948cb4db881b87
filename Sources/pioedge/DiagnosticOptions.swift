import ArgumentParser

/// What is written beside an answer, for whoever looks into one.
struct DiagnosticOptions: ParsableArguments {
  @Flag(
    help: ArgumentHelp("Print the memory plan to stderr before running.", visibility: .hidden))
  var verbose = false

  @Flag(
    help: ArgumentHelp("Check every tensor's checksum before running.", visibility: .hidden))
  var verify = false

  @Option(
    help: ArgumentHelp(
      "Write the logits that the first token is chosen from (f32, little-endian).",
      valueName: "file", visibility: .hidden))
  var dumpLogits: String?

  @Option(
    help: ArgumentHelp(
      "Write what each pruning stage ranked the visual tokens by, and what it kept (JSON).",
      valueName: "file", visibility: .hidden))
  var dumpSaliency: String?

  @Option(
    help: ArgumentHelp(
      "Draw what each pruning stage ranked and kept over the images (PNG); FILE.json says the same in words.",
      valueName: "file", visibility: .hidden))
  var explain: String?

  var writesFiles: Bool { dumpLogits != nil || dumpSaliency != nil || explain != nil }
}
