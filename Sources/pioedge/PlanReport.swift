import PIORuntime

/// A memory plan as a table and as JSON: `plan`, and `run` and `bench` with `--verbose`.
struct PlanReport: Encodable {
  struct Part: Encodable {
    let name: String
    let bytes: Int
  }

  struct Phase: Encodable {
    let name: String
    let bytes: Int
    let parts: [Part]
  }

  struct Settings: Encodable {
    let context: Int
    let images: Int
    let maxImagePixels: Int
    let codecMemory: Int
    let threads: Int
    let kv: String
    let compute: String
    let visualTokens: String
    let prune: String
    let memoryCap: Int?
    let stream: String
    let lock: Bool
    let conversation: Bool
    let prefillChunkRows: Int
  }

  let peakBytes: Int
  let fits: Bool
  let smallestCapBytes: Int
  /// Of the phase that needs most: they add up to the peak.
  let parts: [Part]
  let phases: [Phase]
  let limits: Settings
  let residentWeightBytes: Int
  let streamedBytesPerToken: Int

  init(_ plan: Plan) {
    func parts(_ phase: Plan.Phase) -> [Part] {
      phase.parts.filter { $0.bytes > 0 }.map { Part(name: $0.name, bytes: $0.bytes) }
    }
    peakBytes = plan.peakBytes
    fits = plan.fits
    smallestCapBytes = plan.smallestCapBytes
    self.parts = parts(plan.peak)
    phases = plan.phases.map { Phase(name: $0.name, bytes: $0.bytes, parts: parts($0)) }
    residentWeightBytes = plan.residentWeightBytes
    streamedBytesPerToken = plan.streamedBytesPerToken
    let limits = plan.limits
    self.limits = Settings(
      context: limits.contextRows, images: limits.imageCount,
      maxImagePixels: limits.maxImagePixels, codecMemory: plan.codecByteCount,
      threads: limits.threadCount, kv: limits.kv.rawValue, compute: limits.compute.rawValue,
      visualTokens: limits.pruning.budget.text, prune: limits.pruning.method.rawValue,
      memoryCap: limits.memoryCap, stream: limits.stream.rawValue, lock: limits.locksWeights,
      conversation: limits.isConversation, prefillChunkRows: plan.arena.chunkRows)
  }

  /// One column a phase; the sum of each below, the largest is the peak.
  var table: String {
    var names: [String] = []
    for part in phases.flatMap(\.parts) where !names.contains(part.name) { names.append(part.name) }
    let width = (names.map(\.count).max() ?? 0) + 2
    func line(_ name: String, _ cells: [String]) -> String {
      padded(name, width) + cells.map { padded($0, 13, left: true) }.joined()
    }
    var lines = [line("MiB", phases.map(\.name))]
    for name in names {
      lines.append(
        line(
          name,
          phases.map { phase in
            phase.parts.first { $0.name == name }.map { mebibyteText($0.bytes) } ?? "-"
          }))
    }
    lines.append(line("together", phases.map { mebibyteText($0.bytes) }))
    lines.append("")
    lines.append("peak          \(peakBytes) bytes (\(byteText(peakBytes)))")
    if let cap = limits.memoryCap {
      lines.append("cap           \(cap) bytes (\(byteText(cap)))\(fits ? "" : ": DOES NOT FIT")")
    }
    lines.append("smallest cap  \(smallestCapBytes) bytes (\(byteText(smallestCapBytes)))")
    if streamedBytesPerToken > 0 {
      lines.append(
        "weights       \(byteText(residentWeightBytes)) stay, \(byteText(streamedBytesPerToken)) are read for each token"
      )
    }
    lines.append(
      "limits        \(limits.context) text rows, \(limits.images) image(s), \(limits.threads) thread(s), KV \(limits.kv), visual tokens \(limits.visualTokens), prefill in chunks of \(limits.prefillChunkRows) rows"
    )
    return lines.joined(separator: "\n")
  }

  private func padded(_ text: String, _ width: Int, left: Bool = false) -> String {
    let space = String(repeating: " ", count: max(0, width - text.count))
    return left ? space + text : text + space
  }
}

extension VisualBudget {
  /// As on the command line.
  var text: String {
    switch self {
    case .all: "all"
    case .average(let count): "\(count)"
    case .fraction(let part): "\((part * 1e4).rounded() / 100)%"
    case .stages(let stages):
      stages.map { "\($0.afterLayer):\($0.keep)" }.joined(separator: ",")
    }
  }
}
