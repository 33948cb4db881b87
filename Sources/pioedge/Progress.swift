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

/// Writes to stderr, unbuffered.
func writeError(_ text: String) {
  var text = text
  text.withUTF8 { bytes in _ = write(STDERR_FILENO, bytes.baseAddress, bytes.count) }
}
