extension BenchReport {
  /// The table for people.
  var text: String {
    var rows = [["test", "median", "", "smallest – largest", "achieved", "share of the limit"]]
    for run in prefill {
      rows.append([
        "prefill \(run.tokens)", decimal(run.tokensPerSecond, 2), "tok/s",
        range(run.tokensPerSecondMin, run.tokensPerSecondMax), "\(decimal(run.gmacs, 1)) GMAC/s",
        share(run.shareOfInt8Peak.wrappedValue, "int8 peak"),
      ])
    }
    if let decode {
      rows.append([
        "decode \(decode.tokens)" + (decode.depth > 0 ? " behind \(decode.depth)" : ""),
        decimal(decode.tokensPerSecond, 2), "tok/s",
        range(decode.tokensPerSecondMin, decode.tokensPerSecondMax),
        "\(decimal(decode.gbs, 1)) GB/s", share(decode.shareOfBandwidth, "read bandwidth"),
      ])
    }
    if let image, let imageEncodeMs {
      rows.append([
        "image encoded", decimal(imageEncodeMs, 1), "ms",
        range(image.encodeMsMin, image.encodeMsMax), "\(decimal(image.gmacs, 1)) GMAC/s",
        share(image.shareOfInt8Peak.wrappedValue, "int8 peak"),
      ])
    }
    if let firstToken, let timeToFirstTokenMs {
      rows.append([
        "first token, \(firstToken.rows) rows" + (image == nil ? "" : " with image"),
        decimal(timeToFirstTokenMs, 1), "ms", range(firstToken.msMin, firstToken.msMax),
      ])
    }
    let measured = rows.count > 1 ? table(rows, right: [1, 3, 4]) : ""
    return """
      \(model) (\(byteText(modelBytes))), KV cache \(kv), median of \(repetitions)
      \(cpu), \(isa), \(threads) thread(s)

      \(measured)\(budgets.map(BudgetReport.text) ?? "")
      limits here: \(limits?.text ?? "")\(clock.map { "\nclock \($0.text)" } ?? "")
      peak resident \(byteText(peakResidentBytes)), loaded in \(decimal(loadMs, 2)) ms
      """
  }

  private func range(_ smallest: Double, _ largest: Double) -> String {
    "\(decimal(smallest, 2)) – \(decimal(largest, 2))"
  }

  private func share(_ value: Double?, _ of: String) -> String {
    value.map { "\(decimal(100 * $0, 1)) % of \(of)" } ?? ""
  }
}
