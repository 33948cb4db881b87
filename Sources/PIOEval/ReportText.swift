extension Results {
  /// The report as Markdown: the unpruned model and the controls, then a table for each budget.
  public func markdown(title: String, about: [String]) -> String {
    var text = "# \(title)\n\n"
    for line in about { text += "- \(line)\n" }
    text +=
      "\n\(questions) questions about \(images) images. `kept` is accuracy relative to the"
    text +=
      " unpruned model, `least` that of the family that lost most, `same` the share of answers"
    text += " that are the unpruned model's, `prefill` the median time to the first logits in"
    text +=
      " milliseconds, the image being encoded already. The last column is the first method less"
    text +=
      " this one, in points, with its paired 95 % bootstrap interval: it `beats` where the interval"
    text += " excludes 0.\n\n## The unpruned model\n\n"
    text += header(hasVerdict: false)
    for row in [unpruned] + controls { text += line(row, hasVerdict: false) }
    for table in tables {
      text += "\n## \(table.title.capitalizedFirst)\n\n" + header(hasVerdict: true)
      for cell in table.cells {
        if let row = cell.row {
          text += line(row, hasVerdict: true)
        } else {
          let empty = String(repeating: " |", count: families.count + 6)
          text += "| \(cell.method) | n/a: \(cell.problem ?? "") |\(empty)\n"
        }
      }
    }
    return text
  }

  /// A line for every table, method and family; `all` is the whole set.
  public var csv: String {
    var text = "table,budget,method,schedule,average_tokens,peak_tokens,family,questions,accuracy,"
    text += "retained,agreement,prefill_ms,difference,low,high,verdict\n"
    func add(_ table: String, _ budget: String, _ row: Row) {
      let front = [
        table, quoted(budget), quoted(row.method), quoted(row.schedule),
        decimals(row.averageTokens, 3), String(row.peakTokens),
      ]
      let whole = Family(
        name: "all", questions: questions, accuracy: row.accuracy, retained: row.retained)
      for family in [whole] + row.families {
        var fields = front
        fields += [quoted(family.name), String(family.questions), decimals(family.accuracy, 6)]
        fields.append(family.retained.map { decimals($0, 6) } ?? "")
        if family.name == "all" {
          fields += [decimals(row.agreement, 6), decimals(row.prefillMs, 3)]
          fields +=
            row.reference.map {
              [decimals($0.mean, 6), decimals($0.low, 6), decimals($0.high, 6)]
            } ?? ["", "", ""]
          fields.append(row.verdict?.rawValue ?? "")
        } else {
          fields += ["", "", "", "", "", ""]
        }
        text += fields.joined(separator: ",") + "\n"
      }
    }
    add("none", "", unpruned)
    for control in controls { add("control", "", control) }
    for table in tables {
      for cell in table.cells {
        if let row = cell.row { add(table.kind, table.budget, row) }
      }
    }
    return text
  }

  private func header(hasVerdict: Bool) -> String {
    var names = ["method", "cuts", "average", "all", "kept", "least", "same"]
    names += families.map(cellText)
    names.append("prefill")
    if hasVerdict { names.append("first − this") }
    return "| " + names.joined(separator: " | ") + " |\n"
      + String(repeating: "| --- ", count: names.count) + "|\n"
  }

  private func line(_ row: Row, hasVerdict: Bool) -> String {
    var fields = [
      row.method, row.schedule, decimals(row.averageTokens, 1), percent(row.accuracy),
      percent(row.retained), percent(row.lowestFamilyRetained), percent(row.agreement),
    ]
    fields += row.families.map { percent($0.accuracy) }
    fields.append(decimals(row.prefillMs, 1))
    if hasVerdict { fields.append(row.comparison) }
    return "| " + fields.joined(separator: " | ") + " |\n"
  }
}

extension Results.Row {
  /// `beats +3.1 (2.0 … 4.2)`.
  public var comparison: String {
    guard let reference, let verdict else { return "" }
    let values = [reference.mean, reference.low, reference.high].map { decimals(100 * $0, 1) }
    let sign = reference.mean > 0 ? "+" : ""
    return "\(verdict.rawValue) \(sign)\(values[0]) (\(values[1]) … \(values[2]))"
  }
}

/// `93.4`, or `–` for nothing.
public func percent(_ share: Double?) -> String { share.map { decimals(100 * $0, 1) } ?? "–" }

/// With so many digits behind the point.
func decimals(_ value: Double, _ digits: Int) -> String {
  guard value.isFinite, abs(value) < 1e12 else { return "0" }
  var scale = 1
  for _ in 0..<digits { scale *= 10 }
  let whole = Int((abs(value) * Double(scale)).rounded())
  let sign = value < 0 && whole > 0 ? "-" : ""
  guard digits > 0 else { return "\(sign)\(whole)" }
  let fraction = String(whole % scale)
  return "\(sign)\(whole / scale)."
    + String(repeating: "0", count: digits - fraction.count) + fraction
}

/// A name from outside in a cell of a Markdown table.
private func cellText(_ text: String) -> String {
  text.split(whereSeparator: \.isNewline).joined(separator: " ")
    .split(separator: "|", omittingEmptySubsequences: false).joined(separator: "\\|")
}

/// A CSV field. Source: RFC 4180.
private func quoted(_ text: String) -> String {
  guard text.contains(where: { ",\"\n\r".contains($0) }) else { return text }
  return "\""
    + text.split(separator: "\"", omittingEmptySubsequences: false)
    .joined(separator: "\"\"") + "\""
}

extension String {
  fileprivate var capitalizedFirst: String { prefix(1).uppercased() + dropFirst() }
}
