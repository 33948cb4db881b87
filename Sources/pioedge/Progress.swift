import Glibc

/// A line on stderr that shows how far long work is and how long it will still take.
///
/// Only on a terminal, at most ten times a second, and gone when the work is done.
struct ProgressLine {
  private let isShown: Bool
  private let clock = ContinuousClock()
  private let start: ContinuousClock.Instant
  private var shownAt: ContinuousClock.Instant?

  init(isShown: Bool = isatty(STDERR_FILENO) == 1) {
    self.isShown = isShown
    start = clock.now
  }

  mutating func show(_ label: String, done: Int, of total: Int) {
    guard isShown, total > 0 else { return }
    let now = clock.now
    if let shownAt, now - shownAt < .milliseconds(100) { return }
    shownAt = now
    let fraction = min(1, Double(done) / Double(total))
    let elapsed = seconds(now - start)
    let bar = String(repeating: "#", count: Int(fraction * 24))
    var line = "\(label) [\(bar)\(String(repeating: "-", count: 24 - bar.count))] "
    line += "\(Int(fraction * 100)) %"
    // The first second's rate says little.
    if elapsed > 1, fraction > 0 { line += ", \(duration(elapsed / fraction - elapsed)) left" }
    writeError("\r\u{1B}[K" + line)
  }

  mutating func clear() {
    if shownAt != nil { writeError("\r\u{1B}[K") }
    shownAt = nil
  }
}

/// `75` as `1:15`.
func duration(_ seconds: Double) -> String {
  let whole = Int(seconds.rounded(.up))
  let (minutes, rest) = (whole / 60, whole % 60)
  return "\(minutes):\(rest < 10 ? "0" : "")\(rest)"
}

func seconds(_ duration: Duration) -> Double {
  Double(duration.components.seconds) + Double(duration.components.attoseconds) * 1e-18
}

/// Writes to stderr, unbuffered.
func writeError(_ text: String) {
  var text = text
  text.withUTF8 { bytes in _ = write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
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
