import Glibc
import PIOBase

/// Where one edge of an image goes: real pixels → a padded edge → a resized edge → the crop.
struct AxisGeometry: Equatable {
  /// Pixels the file has.
  var source: Int
  /// Pixels of padding in front of them, and of the padded edge.
  var padBefore = 0
  var padded: Int
  /// Pixels after resizing.
  var resized: Int
  /// The resized pixels that survive the crop: `firstKept..<firstKept + kept`.
  var firstKept: Int
  var kept: Int
  /// Where the first of them goes; more than 0 where the resized edge is shorter than the crop.
  var destination: Int

  /// The centre crop of Hugging Face's processors: the first kept pixel is ⌊(resized − side)/2⌋, and
  /// a shorter edge is set behind ⌈(side − resized)/2⌉ black pixels.
  init(source: Int, padded: Int, padBefore: Int, resized: Int, side: Int) {
    self.source = source
    self.padded = padded
    self.padBefore = padBefore
    self.resized = resized
    firstKept = max(0, (resized - side) / 2)
    kept = min(side, resized)
    destination = max(0, (side - resized + 1) / 2)
  }

  /// An edge that is resized and kept whole.
  init(source: Int, resized: Int, destination: Int) {
    self.source = source
    padded = source
    self.resized = resized
    firstKept = 0
    kept = resized
    self.destination = destination
  }

  /// Whether Pillow 13 resamples this edge, the height, before `width`.
  func shrinksFarMore(than width: AxisGeometry) -> Bool {
    padded > resized && padded - resized > 2 * (width.padded - width.resized)
  }

  /// Both edges of an upright image of `width` × `height` pixels.
  static func edges(
    width: Int, height: Int, _ preparation: ImagePreparation
  ) -> (x: AxisGeometry, y: AxisGeometry) {
    let (side, target) = (preparation.side, preparation.steps.resizeTo)
    func axis(_ source: Int, padded: Int, resized: Int) -> AxisGeometry {
      AxisGeometry(
        source: source, padded: padded, padBefore: (padded - source) / 2, resized: resized,
        side: side)
    }
    switch preparation.steps.fit {
    case .stretch:
      return (
        axis(width, padded: width, resized: target), axis(height, padded: height, resized: target)
      )
    case .pad:
      let square = max(width, height)
      return (
        axis(width, padded: square, resized: target), axis(height, padded: square, resized: target)
      )
    case .crop:
      let short = min(width, height)
      return (
        axis(width, padded: width, resized: width == short ? target : target * width / short),
        axis(height, padded: height, resized: height == short ? target : target * height / short)
      )
    }
  }
}

/// The weights of one edge: each kept pixel is a weighted sum of a window of the file's pixels.
///
/// The resampling filter f is stretched by the scale s = max(1, padded/resized), so that a smaller
/// image averages what it leaves out. Pixel i of the result lies at c = (i + ½)·padded/resized of
/// the source and weighs the pixels j with |j + ½ − c| below about support·s by f((j + ½ − c)/s),
/// divided by the sum of these. As Pillow does, weights are rounded to 22 bits behind the binary
/// point, and a window's ends are ⌊c ∓ support·s + ½⌋: the results are then equal to the last bit.
/// Filters: the triangle (support 1), Keys' cubic convolution with a = −½ (support 2), Lanczos's windowed sinc with
/// three lobes (support 3).
/// Sources: Keys 1981, doi:10.1109/TASSP.1981.1163711; Duchon 1979, doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2.
///
/// Weights of padding are summed, since all its pixels are the same.
struct ResizeAxis {
  static let weightBits: Int32 = 22
  static let half: Int32 = 1 << 21

  let count: Int
  /// Longest window.
  let taps: Int
  /// The file holds this edge in reverse; outputs are counted in the file's order.
  let mirrored: Bool
  let destination: Int
  let enlarges: Bool
  let starts: UnsafeMutablePointer<Int32>
  let counts: UnsafeMutablePointer<Int32>
  let padWeights: UnsafeMutablePointer<Int32>
  /// `taps` for each output.
  let weights: UnsafeMutablePointer<Int32>

  /// Bytes of the tables at most, for any edge up to `maxEdge`.
  static func byteCount(kept: Int, maxEdge: Int, resized: Int, filter: ImagePreprocessing.Filter)
    -> Int
  {
    let taps = min(maxEdge, longestWindow(padded: maxEdge, resized: resized, filter))
    return Scratch.rounded(kept * taps * 4) + 3 * Scratch.rounded(kept * 4)
  }

  /// The same for an edge that is resized to at most `longest` pixels in an enlarging by s, or kept whole while another
  /// shrinks by the same s: its edge/s + 1 windows of up to 2·support·s + 3 pixels.
  static func byteCount(
    longest: Int, shrunkToAtLeast side: Int, maxEdge: Int, filter: ImagePreprocessing.Filter
  ) -> Int {
    let count = longest + 1
    let width = 2 * filter.support
    let weights = width * maxEdge + (width + 3) * count + width * (maxEdge / side + 1)
    return Scratch.rounded(weights * 4) + 3 * Scratch.rounded(count * 4)
  }

  /// The same for an edge of at most `maxEdge` pixels that is resized to at most `longest` and kept whole. Shrinking by s
  /// takes longest = edge/s windows of up to 2·support·s + 3 pixels, enlarging windows of 2·support + 1.
  static func byteCount(longest: Int, maxEdge: Int, filter: ImagePreprocessing.Filter) -> Int {
    let weights = 2 * filter.support * maxEdge + (2 * filter.support + 3) * longest
    return Scratch.rounded(weights * 4) + 3 * Scratch.rounded(longest * 4)
  }

  init(
    _ geometry: AxisGeometry, filter: ImagePreprocessing.Filter, mirrored: Bool,
    _ scratch: inout Scratch
  ) {
    count = geometry.kept
    taps = min(
      geometry.source,
      Self.longestWindow(
        padded: geometry.padded, resized: geometry.resized, filter))
    self.mirrored = mirrored
    destination = geometry.destination
    enlarges = geometry.padded < geometry.resized
    starts = scratch.take(Int32.self, count)
    counts = scratch.take(Int32.self, count)
    padWeights = scratch.take(Int32.self, count)
    weights = scratch.take(Int32.self, count * taps)
    for i in 0..<count {
      fill(i, geometry, filter)
    }
  }

  /// Position in the crop of output `i`.
  func position(_ i: Int) -> Int { destination + (mirrored ? count - 1 - i : i) }

  func end(_ i: Int) -> Int { Int(starts[i] + counts[i]) }

  /// The file's pixels that any output reads; empty where there are none.
  var sourceRange: Range<Int> {
    var (low, high) = (Int.max, 0)
    for i in 0..<count where counts[i] > 0 {
      low = min(low, Int(starts[i]))
      high = max(high, end(i))
    }
    return low < high ? low..<high : 0..<0
  }

  /// Counts source pixels from `first` on.
  func rebase(to first: Int) {
    for i in 0..<count where counts[i] > 0 { starts[i] -= Int32(first) }
  }

  private static func longestWindow(
    padded: Int, resized: Int, _ filter: ImagePreprocessing.Filter
  ) -> Int {
    let scale = max(1, Double(padded) / Double(resized))
    return 2 * Int((Double(filter.support) * scale).rounded(.up)) + 1
  }

  private func fill(_ i: Int, _ geometry: AxisGeometry, _ filter: ImagePreprocessing.Filter) {
    let scale = Double(geometry.padded) / Double(geometry.resized)
    let stretch = max(scale, 1)
    let reach = Double(filter.support) * stretch
    let center = (Double(geometry.firstKept + i) + 0.5) * scale
    let low = max(0, Int(center - reach + 0.5))
    let high = min(geometry.padded, Int(center + reach + 0.5))
    let inverse = 1 / stretch
    func weight(_ j: Int) -> Double {
      let x = (Double(j) - center + 0.5) * inverse
      return switch filter {
      case .bilinear: triangle(x)
      case .bicubic: cubic(x)
      case .lanczos: lanczos(x)
      }
    }
    var sum = 0.0
    for j in low..<high { sum += weight(j) }

    let real = geometry.padBefore..<geometry.padBefore + geometry.source
    let (first, last) = (
      min(max(low, real.lowerBound), real.upperBound), min(high, real.upperBound)
    )
    let used = max(0, last - first)
    let slot = mirrored ? count - 1 - i : i
    var padding: Int32 = 0
    for j in low..<high {
      let fixed = Self.fixedPoint(sum != 0 ? weight(j) / sum : weight(j))
      if real.contains(j) {
        weights[slot * taps + (mirrored ? last - 1 - j : j - first)] = fixed
      } else {
        padding &+= fixed
      }
    }
    let start = first - real.lowerBound
    starts[slot] = Int32(mirrored ? geometry.source - start - used : start)
    counts[slot] = Int32(used)
    padWeights[slot] = padding
  }

  /// Rounded half away from zero.
  private static func fixedPoint(_ weight: Double) -> Int32 {
    let scaled = weight * Double(1 << weightBits)
    return Int32(scaled < 0 ? scaled - 0.5 : scaled + 0.5)
  }
}

private func triangle(_ x: Double) -> Double {
  max(0, 1 - abs(x))
}

/// Keys' cubic with a = −½: (a+2)|x|³ − (a+3)|x|² + 1 up to 1, a|x|³ − 5a|x|² + 8a|x| − 4a up to 2.
private func cubic(_ value: Double) -> Double {
  let (a, x) = (-0.5, abs(value))
  if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
  if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
  return 0
}

/// sinc(x)·sinc(x/3) within 3 of 0, with sinc(x) = sin(πx)/(πx).
private func lanczos(_ x: Double) -> Double {
  -3 <= x && x < 3 ? sinc(x) * sinc(x / 3) : 0
}

private func sinc(_ x: Double) -> Double { x == 0 ? 1 : sin(x * .pi) / (x * .pi) }
