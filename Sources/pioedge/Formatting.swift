/// `75` as `1:15`.
func duration(_ seconds: Double) -> String {
  let whole = Int(seconds.rounded(.up))
  let (minutes, rest) = (whole / 60, whole % 60)
  return "\(minutes):\(rest < 10 ? "0" : "")\(rest)"
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

/// `123456789` as `117.7 MiB`.
func byteText(_ count: Int) -> String {
  var size = Double(count)
  for unit in ["bytes", "KiB", "MiB"] {
    if size < 1000 { return unit == "bytes" ? "\(count) bytes" : "\(decimal(size, 1)) \(unit)" }
    size /= 1024
  }
  return "\(decimal(size, 2)) GiB"
}

/// With so many digits behind the point.
func decimal(_ value: Double, _ digits: Int) -> String {
  let scale = digits == 1 ? 10.0 : digits == 2 ? 100 : 1
  let whole = Int((abs(value) * scale).rounded())
  let sign = value < 0 && whole > 0 ? "-" : ""
  guard digits > 0 else { return "\(sign)\(whole)" }
  let fraction = String(whole % Int(scale))
  let zeros = String(repeating: "0", count: digits - fraction.count)
  return "\(sign)\(whole / Int(scale)).\(zeros)\(fraction)"
}

/// Lines of columns: the first left-aligned, the `right` ones right-aligned, two spaces between.
func table(_ rows: [[String]], right: Set<Int>) -> String {
  let columnCount = rows.map(\.count).max() ?? 0
  let widths = (0..<columnCount).map { column in
    rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
  }
  return rows.map { row in
    var line = ""
    for (column, cell) in row.enumerated() {
      let space = String(repeating: " ", count: widths[column] - cell.count)
      line += (column > 0 ? "  " : "") + (right.contains(column) ? space + cell : cell + space)
    }
    while line.last == " " { line.removeLast() }
    return line + "\n"
  }.joined()
}

/// `12.3`: of a column whose head says MiB.
func mebibyteText(_ count: Int) -> String { decimal(Double(count) / 1_048_576, 1) }
