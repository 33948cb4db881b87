import PIOBase

/// Resamples across rows while they arrive, one at a time and ascending.
///
/// Shrinking: each row is added to the sums (32 bits) of the few outputs whose windows it lies in, at
/// most 2·support + 2 for any scale: |centre − row| < support·scale + 1, centres a scale apart. Enlarging: many
/// windows cover a row, but none holds more than 2·support + 1 rows, so these are kept instead. Either way the
/// memory depends on the row's width and not on the number of rows.
struct RowStream {
  let axis: ResizeAxis
  /// Bytes of a row.
  let width: Int
  /// First output that is not finished.
  private var unfinished = 0
  /// First output whose window has not begun.
  private var unopened = 0
  /// Rows given so far: the window ends at or before it are complete.
  private var position = 0
  private let slots: Int
  private let sums: UnsafeMutablePointer<Int32>
  private let kept: UnsafeMutablePointer<UInt8>
  private let padding: UnsafeMutablePointer<UInt8>

  static func byteCount(width: Int, filter: ImagePreprocessing.Filter) -> Int {
    max(
      Scratch.rounded(width * (2 * filter.support + 2) * 4),
      Scratch.rounded(width * 4) + Scratch.rounded(width * (2 * filter.support + 1)))
      + Scratch.alignment
  }

  /// `padding` is a row of the pad colour, as wide as the others.
  init(
    _ axis: ResizeAxis, width: Int, padding: UnsafeMutablePointer<UInt8>, _ scratch: inout Scratch
  ) {
    self.axis = axis
    self.width = width
    self.padding = padding
    if axis.enlarges {
      slots = Swift.max(1, (0..<axis.count).reduce(0) { Swift.max($0, Int(axis.counts[$1])) })
      sums = scratch.take(Int32.self, width)
      kept = scratch.take(UInt8.self, width * slots)
    } else {
      slots = Self.mostOpenWindows(axis)
      sums = scratch.take(Int32.self, width * slots)
      kept = scratch.take(UInt8.self, 0)
    }
  }

  /// Adds row `index` of the file, which is at or after those given before.
  mutating func add(_ row: UnsafePointer<UInt8>, index: Int) {
    position = index + 1
    if axis.enlarges {
      (kept + index % slots * width).update(from: row, count: width)
      return
    }
    while unopened < axis.count, axis.starts[unopened] <= index {
      if axis.counts[unopened] > 0 { fillBias(sums(unopened), unopened) }
      unopened += 1
    }
    for i in unfinished..<unopened where axis.counts[i] > 0 {
      let weight = axis.weights[i * axis.taps + index - Int(axis.starts[i])]
      accumulate(sums(i), row, weight, width)
    }
  }

  /// No more rows will come.
  mutating func finish() { position = Int.max }

  /// Writes the next complete row; returns which output it is, nil where none is complete.
  mutating func next(into out: UnsafeMutablePointer<UInt8>) -> Int? {
    let i = unfinished
    guard i < axis.count, axis.end(i) <= position else { return nil }
    unfinished += 1
    unopened = max(unopened, unfinished)
    if axis.counts[i] == 0 {
      fillPadding(out, i)
    } else if axis.enlarges {
      fillBias(sums, i)
      for t in 0..<Int(axis.counts[i]) {
        let row = kept + (Int(axis.starts[i]) + t) % slots * width
        accumulate(sums, row, axis.weights[i * axis.taps + t], width)
      }
      narrow(sums, out, width)
    } else {
      narrow(sums(i), out, width)
    }
    return i
  }

  private func sums(_ output: Int) -> UnsafeMutablePointer<Int32> {
    sums + output % slots * width
  }

  /// The rounding half and what the padding adds.
  private func fillBias(_ sums: UnsafeMutablePointer<Int32>, _ output: Int) {
    let weight = axis.padWeights[output]
    guard weight != 0 else { return sums.update(repeating: ResizeAxis.half, count: width) }
    for b in 0..<width { sums[b] = ResizeAxis.half &+ weight &* Int32(padding[b]) }
  }

  /// An output that lies wholly in the padding.
  private func fillPadding(_ out: UnsafeMutablePointer<UInt8>, _ output: Int) {
    let weight = axis.padWeights[output]
    for b in 0..<width { out[b] = narrowed(ResizeAxis.half &+ weight &* Int32(padding[b])) }
  }

  /// The most windows that share a row.
  private static func mostOpenWindows(_ axis: ResizeAxis) -> Int {
    var (most, last) = (1, 0)
    for i in 0..<axis.count where axis.counts[i] > 0 {
      last = max(last, i)
      while last < axis.count, Int(axis.starts[last]) < axis.end(i) { last += 1 }
      most = max(most, last - i)
    }
    return most
  }
}

/// A sum with 22 bits behind the point as a byte, clamped.
@inline(__always)
func narrowed(_ sum: Int32) -> UInt8 {
  UInt8(truncatingIfNeeded: min(max(sum >> ResizeAxis.weightBits, 0), 255))
}

private func narrow(
  _ sums: UnsafeMutablePointer<Int32>, _ out: UnsafeMutablePointer<UInt8>, _ count: Int
) {
  for b in 0..<count { out[b] = narrowed(sums[b]) }
}

private func accumulate(
  _ sums: UnsafeMutablePointer<Int32>, _ row: UnsafePointer<UInt8>, _ weight: Int32, _ count: Int
) {
  for b in 0..<count { sums[b] &+= weight &* Int32(row[b]) }
}

/// Resamples along a row of RGB pixels: `out` receives `axis.count` of them.
/// A window reads `row[3·start ..< 3·end]`.
func resampleAlong(
  _ axis: ResizeAxis, _ row: UnsafePointer<UInt8>, _ out: UnsafeMutablePointer<UInt8>,
  padColor: (UInt8, UInt8, UInt8)
) {
  for i in 0..<axis.count {
    let pad = axis.padWeights[i]
    var red = ResizeAxis.half &+ pad &* Int32(padColor.0)
    var green = ResizeAxis.half &+ pad &* Int32(padColor.1)
    var blue = ResizeAxis.half &+ pad &* Int32(padColor.2)
    let pixels = row + 3 * Int(axis.starts[i])
    let weights = axis.weights + i * axis.taps
    for t in 0..<Int(axis.counts[i]) {
      let weight = weights[t]
      red &+= weight &* Int32(pixels[3 * t])
      green &+= weight &* Int32(pixels[3 * t + 1])
      blue &+= weight &* Int32(pixels[3 * t + 2])
    }
    out[3 * i] = narrowed(red)
    out[3 * i + 1] = narrowed(green)
    out[3 * i + 2] = narrowed(blue)
  }
}
