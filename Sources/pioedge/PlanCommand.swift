import ArgumentParser
import PIOConvert
import PIOFormat
import PIORuntime

struct PlanCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "plan",
    abstract: "Say where every byte of a run will go; nothing is run.",
    usage: "pioedge plan <model> [<options>]",
    discussion: """
      Takes the options of `run`, with the same defaults. A run has three phases that share their memory: an image is \
      decoded, it is encoded, the decoder runs. The peak is the largest of them. A checkpoint's folder or a GGUF file \
      is planned as `convert` would write it; nothing is converted.

      Examples:
        pioedge plan llava.piom
        pioedge plan llava.piom --memory-cap 1GiB --visual-tokens 64
        pioedge plan llava.piom --memory-cap auto --chat
        pioedge plan llava.piom --kv int8 --context 512 --json
        pioedge plan ./llava-1.5-7b-hf --weights int4 --memory-cap 4GiB

      Exit code 1: it does not fit under the cap.

      \(everyOption("plan"))
      """)

  @Argument(
    help: ArgumentHelp(
      "The .piom file, or what would be converted: a folder or a GGUF file.", valueName: "model"))
  var model: String

  @Flag(help: "For a chat: room for several images, which come at any time.")
  var chat = false

  @Flag(help: "For `run --jsonl`: one conversation after another.")
  var jsonl = false

  @Flag(help: "One JSON object instead of a table.")
  var json = false

  @OptionGroup var session: SessionOptions
  @OptionGroup(title: "Conversion") var conversion: PlannedConversion

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
    let (sizes, process) = try measure()
    let limits = try session.limits(
      for: sizes.config, images: 0, isChat: chat, isConversation: chat || jsonl, seed: 0)
    let plan = try Plan(sizes, limits: limits, process: process)
    let report = PlanReport(plan)
    try printOutput(json ? jsonText(report) : report.table)
    if let cap = limits.memoryCap, !plan.fits {
      throw RuntimeError.doesNotFit(
        cap: cap, smallest: plan.smallestCapBytes,
        remedies: Plan.remedies(sizes, limits: limits, process: process))
    }
  }

  /// The model's numbers, and what the process takes beside it.
  private func measure() throws -> (ModelSizes, ProcessMemory) {
    if let planned = try conversion.model(model) {
      let maxPieceBytes = try planned.tokenizer.withUnsafeBytes { bytes in
        try loadTokenizer(bytes, vocabSize: planned.config.text.vocabSize).maxPieceByteCount
      }
      var config = planned.config
      config.vision = try session.room.limited(config.vision)
      let sizes = ModelSizes(planned.layout, config: config, maxPieceBytes: maxPieceBytes)
      return (sizes, .usual)
    }
    let file = try session.room.open(model)
    let sizes = ModelSizes(file, maxPieceBytes: try loadTokenizer(of: file).maxPieceByteCount)
    return (sizes, .measured(frontByteCount: sizes.frontByteCount, host: host))
  }
}

/// How a checkpoint that is planned for would be converted: `convert`'s options of these names.
struct PlannedConversion: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Not for a .piom file: the decoder's matrices, as for `convert`: int4, int4-affine, int8, f16, f32, keep.",
      valueName: "kind"),
    transform: weightChoice)
  var weights: WeightChoice?

  @Option(
    help: ArgumentHelp(
      "Columns that share a scale: 32, 64 or 128 (default: 32).", valueName: "n",
      visibility: .hidden))
  var group: Int?

  @Option(
    help: ArgumentHelp(
      "The vision encoder's matrices.", valueName: "kind", visibility: .hidden),
    transform: weightKind)
  var visionWeights: TensorKind?

  @Option(
    help: ArgumentHelp(
      "The vision encoder that belongs to a GGUF file.", valueName: "file", visibility: .hidden))
  var mmproj: String?

  @Option(
    help: ArgumentHelp(
      "Use this prompt template instead of the checkpoint's own.", valueName: "name",
      visibility: .hidden))
  var chatTemplate: String?

  mutating func validate() throws {
    if let group, ![32, 64, 128].contains(group) {
      throw ValidationError("--group takes 32, 64 or 128, not \(group)")
    }
  }

  /// What a conversion of `source` would write; nil: it is a model file already.
  func model(_ source: String) throws -> PlannedModel? {
    guard isConvertible(source) else {
      if weights != nil || group != nil || visionWeights != nil || mmproj != nil
        || chatTemplate != nil
      {
        throw ValidationError(
          "\(source) is a .piom file: --weights and the like are for a checkpoint that would be converted."
        )
      }
      return nil
    }
    var options = ConvertOptions(
      source: source, target: "",
      rules: EncodingRules(
        weights: try weights.map(\.kind) ?? (isGGUF(source) ? nil : .int4),
        visionWeights: visionWeights, group: group ?? 32))
    options.projector = mmproj
    options.chatTemplate = chatTemplate
    return try PlannedModel(options)
  }
}
