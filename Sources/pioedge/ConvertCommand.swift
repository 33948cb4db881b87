import ArgumentParser
import FoundationEssentials
import PIOConvert
import PIOFormat
import PIORuntime
import PIOThreads
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Pack a Hugging Face checkpoint into one .piom file.",
    discussion: """
      SOURCE is a folder with config.json, *.safetensors and tokenizer.json, as save_pretrained \
      writes it: LLaVA-1.5 (LlavaForConditionalGeneration) or a Llama decoder alone. The target \
      appears whole or not at all.

      Examples:
        pioedge convert ./llava-1.5-7b-hf llava.piom --weights int4
        pioedge convert ./checkpoint model.piom --keep 'text.head.*=f16'
        pioedge convert ./checkpoint exact.piom --weights f32 --vision-weights f32
        pioedge convert ./checkpoint model.piom --dry-run
      """)

  @Argument(help: "The checkpoint's folder.")
  var source: String

  @Argument(help: "The file to write.")
  var target: String

  @Option(
    help:
      "The decoder's matrices: int4, int4-affine, int8, f16, f32. The head is int8 in int4 files.",
    transform: weightKind)
  var weights: TensorKind = .int4

  @Option(help: "Columns that share a scale: 32, 64 or 128.")
  var group = 32

  @Option(
    help: "The vision encoder's matrices; int8 unless --weights are f16 or f32.",
    transform: weightKind)
  var visionWeights: TensorKind?

  @Option(
    help: ArgumentHelp(
      "Store tensors whose name fits the pattern as KIND. May be repeated; the last fit decides.",
      valueName: "PATTERN=KIND"),
    transform: keepRule)
  var keep: [KeepRule] = []

  @Option(help: "Use this prompt template instead of the checkpoint's own.")
  var chatTemplate: String?

  @Option(help: "Threads; all cores unless given.")
  var threads: Int?

  @Flag(help: "Check everything but the weights themselves and print sizes; write nothing.")
  var dryRun = false

  @Flag(help: "Print the result as one JSON object.")
  var json = false

  @Flag(help: "Replace an existing target.")
  var force = false

  func validate() throws {
    guard [32, 64, 128].contains(group) else {
      throw ValidationError("--group is 32, 64 or 128, not \(group).")
    }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads is 1…1024, not \(threads).")
    }
  }

  func run() throws {
    let start = ContinuousClock.now
    var options = ConvertOptions(
      source: source, target: target,
      rules: EncodingRules(
        weights: weights, visionWeights: visionWeights, group: group, keep: keep),
      threadCount: threads ?? defaultThreadCount())
    options.chatTemplate = chatTemplate
    options.isDryRun = dryRun
    options.replacesTarget = force
    var line = ProgressLine()
    catchInterrupt()
    do {
      let report = try PIOConvert.convert(options) { progress in
        let label = progress.step == .hashing ? "hashing   " : "converting"
        line.show(label, done: progress.doneBytes, of: progress.totalBytes)
        return !interrupted.load(ordering: .relaxed)
      }
      line.clear()
      let elapsed = seconds(ContinuousClock.now - start)
      try printOutput(json ? report.json(seconds: elapsed) : text(report, seconds: elapsed))
    } catch {
      line.clear()
      throw fail(error)
    }
  }

  private func text(_ report: ConvertReport, seconds: Double) -> String {
    var rows = [
      ["part", "kind", "tensors", "weights", "size", "bits/weight", "SNR dB", "worst tensor"]
    ]
    for part in report.parts {
      var row = [
        part.name, part.kind.name, "\(part.tensorCount)", "\(part.weightCount)",
        byteText(part.byteCount), decimal(part.bitsPerWeight, 2),
        part.snrDecibels.map { decimal($0, 1) } ?? "",
      ]
      if let worst = part.worst, let snr = worst.snrDecibels {
        row.append("\(worst.entry.spec.name) (\(decimal(snr, 1)))")
      }
      rows.append(row)
    }
    var text = table(rows, right: [2, 3, 4, 5, 6])
    if !report.ignored.isEmpty {
      text += "not needed: \(report.ignored.count) tensors (\(report.ignored[0])"
      text += report.ignored.count > 1 ? ", …)\n" : ")\n"
    }
    text += "\(target): \(byteText(report.byteCount)) from \(byteText(report.sourceByteCount))"
    return text + (dryRun ? ", not written (dry run)" : ", \(decimal(seconds, 1)) s")
  }
}

/// Set by the first Ctrl-C; a second one ends the process at once.
private let interrupted = Atomic<Bool>(false)

private func catchInterrupt() {
  _ = interrupted.load(ordering: .relaxed)  // made before a handler needs it
  for number in [SIGINT, SIGTERM] {
    signal(number) { number in
      interrupted.store(true, ordering: .relaxed)
      signal(number, SIG_DFL)
    }
  }
}

/// Prints the error as one line; the process ends with code 1.
func fail(_ error: any Error) -> ExitCode {
  writeError("error: \(error)\n")
  return ExitCode(1)
}

private func weightKind(_ text: String) throws -> TensorKind {
  guard let kind = TensorKind(name: text), kind != .bf16 else {
    throw ValidationError("'\(text)' is none of int4, int4-affine, int8, f16, f32.")
  }
  return kind
}

private func keepRule(_ text: String) throws -> KeepRule {
  guard let rule = KeepRule(text) else {
    throw ValidationError(
      "'\(text)' is no PATTERN=KIND; kinds are int4, int4-affine, int8, f16, bf16, f32.")
  }
  return rule
}

extension ConvertReport {
  fileprivate struct JSON: Encodable {
    struct Part: Encodable {
      let part: String
      let kind: String
      let tensors: Int
      let weights: Int
      let bytes: Int
      let bitsPerWeight: Double
      let snrDb: Double?
      let worstTensor: String?
      let worstSnrDb: Double?
    }
    struct Tensor: Encodable {
      let name: String
      let kind: String
      let bytes: Int
      let snrDb: Double?
    }
    let bytes: Int
    let sourceBytes: Int
    let seconds: Double
    let peakResidentBytes: Int
    let recipe: String
    let parts: [Part]
    let tensors: [Tensor]
    let ignored: [String]
  }

  fileprivate func json(seconds: Double) throws -> String {
    try jsonText(
      JSON(
        bytes: byteCount, sourceBytes: sourceByteCount, seconds: seconds,
        peakResidentBytes: ProcessStatus.peakResidentBytes, recipe: recipe,
        parts: parts.map {
          JSON.Part(
            part: $0.name, kind: $0.kind.name, tensors: $0.tensorCount, weights: $0.weightCount,
            bytes: $0.byteCount, bitsPerWeight: $0.bitsPerWeight, snrDb: $0.snrDecibels,
            worstTensor: $0.worst?.entry.spec.name, worstSnrDb: $0.worst?.snrDecibels)
        },
        tensors: tensors.map {
          JSON.Tensor(
            name: $0.entry.spec.name, kind: $0.entry.encoding.kind.name, bytes: $0.entry.byteCount,
            snrDb: $0.snrDecibels)
        }, ignored: ignored))
  }
}

/// One JSON object on one line, keys sorted, `camelCase` as `snake_case`.
func jsonText(_ value: some Encodable) throws -> String {
  let encoder = JSONEncoder()
  encoder.keyEncodingStrategy = .convertToSnakeCase
  encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
  return String(decoding: try encoder.encode(value), as: UTF8.self)
}
