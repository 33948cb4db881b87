import Glibc
import ArgumentParser
import FoundationEssentials
import PIOConvert
import PIOFormat
import PIORuntime
import PIOThreads
import Synchronization

struct ConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert",
    abstract: "Pack a checkpoint into one .piom file.",
    discussion: """
      SOURCE is a folder with config.json, *.safetensors and tokenizer.json, as save_pretrained \
      writes it: LLaVA-1.5, LLaVA-NeXT, SmolVLM, Idefics3, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, or a Llama or \
      Mistral decoder alone. Or it is a GGUF file of architecture llama, qwen2vl or qwen3vl, with --mmproj \
      the vision encoder of one of these beside it. The target appears whole or not at all.

      Examples:
        pioedge convert ./llava-1.5-7b-hf llava.piom --weights int4
        pioedge convert ./checkpoint model.piom --keep 'text.head.*=f16'
        pioedge convert ./checkpoint exact.piom --weights f32 --vision-weights f32
        pioedge convert ./checkpoint model.piom --dry-run
        pioedge convert model.Q4_0.gguf model.piom
        pioedge convert vicuna.gguf llava.piom --mmproj mmproj.gguf --chat-template vicuna_v1
        pioedge convert model.Q4_K_M.gguf model.piom --verify-against ./checkpoint
        pioedge convert model.piom --verify-against model.gguf      nothing is converted
      """)

  @Argument(help: "The checkpoint's folder, or a GGUF file.")
  var source: String

  @Argument(help: "The file to write; with --verify-against it may be missing.")
  var target: String?

  @Option(
    help: ArgumentHelp(
      """
      The decoder's matrices: int4, int4-affine, int8, f16, f32, or keep: as they are, as far as \
      the file can. Unless given, int4, and keep for GGUF. The head is int8 in int4 files; what \
      has at most 5 bits in GGUF stays as it is in them.
      """, valueName: "kind"),
    transform: weightChoice)
  var weights: WeightChoice?

  @Option(
    help: ArgumentHelp(
      "The vision encoder and projector to a GGUF file, a GGUF file too.", valueName: "file"))
  var mmproj: String?

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

  @Option(
    help: ArgumentHelp(
      """
      Read the written file again and report every tensor's error against this folder or GGUF \
      file. Without a target, SOURCE is a .piom file, which is read alone.
      """, valueName: "source"))
  var verifyAgainst: String?

  @Option(help: "Threads; all cores unless given.")
  var threads: Int?

  @Flag(help: "Check everything but the weights themselves and print sizes; write nothing.")
  var dryRun = false

  @Flag(help: "Print the result as one JSON object.")
  var json = false

  @Flag(help: "Replace an existing target.")
  var force = false

  func validate() throws {
    if target == nil, verifyAgainst == nil {
      throw ValidationError("a target is needed")
    }
    if verifyAgainst != nil, dryRun {
      throw ValidationError("--verify-against and --dry-run cannot be used together")
    }
    guard [32, 64, 128].contains(group) else {
      throw ValidationError("--group takes 32, 64 or 128, not \(group)")
    }
    if let threads, !(1...1024).contains(threads) {
      throw ValidationError("--threads takes a whole number from 1 to 1024")
    }
  }

  func run() throws {
    catchInterrupt()
    bindCallingThread(threadCount: threads ?? defaultThreadCount())
    guard let target else { return try verify(source) }
    let start = ContinuousClock.now
    var line = ProgressLine()
    do {
      let report = try PIOConvert.convert(options(target)) { progress in
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
    if verifyAgainst != nil { try verify(target) }
  }

  private func options(_ target: String) throws -> ConvertOptions {
    var options = ConvertOptions(
      source: source, target: target,
      rules: EncodingRules(
        weights: try weights.map(\.kind) ?? (isGGUF(source) ? nil : .int4),
        visionWeights: visionWeights, group: group, keep: keep),
      threadCount: threads ?? defaultThreadCount())
    options.projector = mmproj
    options.chatTemplate = chatTemplate
    options.isDryRun = dryRun
    options.replacesTarget = force
    return options
  }

  /// Reads a file again and prints how far it is from `verifyAgainst`.
  private func verify(_ path: String) throws {
    guard let reference = verifyAgainst else { return }
    var line = ProgressLine()
    do {
      let report = try PIOConvert.verify(
        path, against: reference, projector: try isGGUF(reference) ? mmproj : nil,
        threadCount: threads ?? defaultThreadCount()
      ) { done, total in
        line.show("verifying ", done: done, of: total)
        return !interrupted.load(ordering: .relaxed)
      }
      line.clear()
      try printOutput(json ? report.json(path, reference) : report.text(path, reference))
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
    text +=
      "\(target ?? ""): \(byteText(report.byteCount)) from \(byteText(report.sourceByteCount))"
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
  printError(errorLine(error))
  return ExitCode(1)
}

/// `--weights`; a kind of nil is `keep`.
struct WeightChoice {
  let kind: TensorKind?
}

func weightChoice(_ text: String) throws -> WeightChoice {
  text == "keep" ? WeightChoice(kind: nil) : WeightChoice(kind: try weightKind(text))
}

func weightKind(_ text: String) throws -> TensorKind {
  guard let kind = TensorKind(name: text), kind != .bf16 else {
    throw ValidationError("unknown kind '\(text)'; known are int4, int4-affine, int8, f16, f32")
  }
  return kind
}

func keepRule(_ text: String) throws -> KeepRule {
  guard let rule = KeepRule(text) else {
    throw ValidationError(
      "'\(text)' is not PATTERN=KIND; kinds are int4, int4-affine, int8, f16, bf16, f32")
  }
  return rule
}
