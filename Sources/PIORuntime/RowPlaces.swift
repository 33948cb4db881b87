import PIOFormat

/// Where each row stands behind the first one, for the rotation of queries and keys: one number, or for M-RoPE its time,
/// its line and its column.
///
/// Source of the three: Wang et al. 2024 (Qwen2-VL), arXiv:2409.12191.
struct RowPlaces {
  /// Time, which is the position where there is no other number.
  let times: UnsafeMutablePointer<Int32>
  /// From a row's time to its line, and from that to its column; 0: there are none.
  let stride: Int
  /// Which of the numbers each rotary frequency turns with; not read where there is one.
  let axes: UnsafeMutablePointer<UInt8>

  init(
    times: UnsafeMutablePointer<Int32>, stride: Int, axes: UnsafeMutablePointer<UInt8>
  ) {
    (self.times, self.stride, self.axes) = (times, stride, axes)
  }

  /// One number a row.
  init(times: UnsafeMutablePointer<Int32>) {
    self.init(
      times: times, stride: 0,
      axes: UnsafeMutableRawPointer(times).assumingMemoryBound(to: UInt8.self))
  }

  init(_ text: TextConfig, _ regions: PromptRegions, rows: Int, arena: borrowing Arena) {
    times = arena.pointer(regions.offsets)
    stride = text.ropeSections.isEmpty ? 0 : rows
    axes = arena.pointer(regions.axes)
    guard stride > 0 else { return }
    for i in 0..<text.headDim / 2 { axes[i] = UInt8(Self.axis(ofFrequency: i, text)) }
  }

  /// 0 time, 1 line, 2 column: the first so many turn with each in turn, or, interleaved, one after the other in threes
  /// until line and column have theirs.
  private static func axis(ofFrequency i: Int, _ text: TextConfig) -> Int {
    let sections = text.ropeSections
    guard text.ropeInterleaves else {
      return i < sections[0] ? 0 : i < sections[0] + sections[1] ? 1 : 2
    }
    return i < 3 * sections[i % 3] ? i % 3 : 0
  }

  var isOne: Bool { stride == 0 }

  func set(_ row: Int, _ position: Int32) { set(row, position, position, position) }

  func set(_ row: Int, _ time: Int32, _ line: Int32, _ column: Int32) {
    times[row] = time
    guard stride > 0 else { return }
    times[stride + row] = line
    times[2 * stride + row] = column
  }

  func move(_ from: Int, to row: Int) {
    times[row] = times[from]
    guard stride > 0 else { return }
    times[stride + row] = times[stride + from]
    times[2 * stride + row] = times[2 * stride + from]
  }

  /// What frequency `i` of a row turns with.
  func position(_ row: Int, frequency i: Int) -> Int32 { times[Int(axes[i]) * stride + row] }
}
