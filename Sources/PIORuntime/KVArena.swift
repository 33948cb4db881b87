import CPIOKernels
import PIOFormat

/// Keys and values of one layer, a slice of the KV arena; it never grows.
///
/// Layout: keys `(kvHead, capacity, headDim)`, values likewise, then for int8 the scales `(kvHead, capacity)` of
/// keys and of values; one head's past is contiguous.
struct LayerCache {
  private(set) var base: UnsafeMutableRawPointer
  let kind: KVKind
  let headCount: Int
  let headDim: Int
  /// Positions, fixed by the plan.
  let capacity: Int
  /// Rows filled.
  var count = 0
  /// The position of the next row: after pruning it need not be the count.
  var nextPosition: Int32 = 0
  /// What is kept when the rows behind are taken back.
  var committed: (count: Int, nextPosition: Int32) = (0, 0)
  /// Positions that a row sees, its own the last of them; nil: all.
  var window: Int32?
  /// The position of each row; there where a window is.
  var positions: UnsafeMutablePointer<Int32>?

  /// The first row that one at `position` sees, of those in front of row `end`.
  func firstVisible(from position: Int32, before end: Int) -> Int {
    guard let window, let positions, position >= window else { return 0 }
    // Rows' positions ascend: the first above position − window.
    var (low, high) = (0, end)
    while low < high {
      let middle = (low + high) / 2
      if positions[middle] > position - window { high = middle } else { low = middle + 1 }
    }
    return low
  }

  /// Counts rows from row `first` on: those of a part of an image. For float kinds alone, whose rows have no scales.
  mutating func shift(by first: Int) {
    precondition(kind != .int8, "shift: int8")
    base += first * headDim * (kind == .f32 ? 4 : 2)
  }

  func head(_ head: Int) -> pio_kv {
    let elementBytes = kind == .f32 ? 4 : kind == .f16 ? 2 : 1
    let headBytes = capacity * headDim * elementBytes
    let planeBytes = headCount * headBytes
    var kv = pio_kv()
    kv.keys = base + head * headBytes
    kv.values = base + planeBytes + head * headBytes
    kv.kind = kind.kernelKind
    kv.head_dim = UInt32(headDim)
    if kind == .int8 {
      let scales = (base + 2 * planeBytes).assumingMemoryBound(to: Float.self)
      kv.key_scales = scales + head * capacity
      kv.value_scales = scales + (headCount + head) * capacity
    }
    return kv
  }
}

/// The caches of all layers: one region of fixed size, cut up by the plan's capacities.
struct KVArena: ~Copyable {
  private let base: UnsafeMutableRawPointer
  private(set) var layers: [LayerCache]

  init(_ layout: ArenaLayout, text: TextConfig, arena: borrowing Arena) {
    base = UnsafeMutableRawPointer(arena.pointer(layout.slot.kv))
    let rowBytes = text.kvHeadCount * layout.limits.kv.byteCount(headDim: text.headDim)
    var offset = 0
    var row = 0
    var layers: [LayerCache] = []
    for capacity in layout.layerCapacities {
      var layer = LayerCache(
        base: base + offset, kind: layout.limits.kv, headCount: text.kvHeadCount,
        headDim: text.headDim, capacity: capacity)
      if layout.slot.positions.count > 0, let window = text.slidingWindow {
        layer.window = Int32(clamping: window)
        layer.positions = arena.pointer(layout.slot.positions) + row
      }
      layers.append(layer)
      offset += ArenaLayout.layerByteCount(capacity, rowBytes)
      row += capacity
    }
    self.layers = layers
  }

  /// Takes `count` rows of a layer into use, which reach over `span` positions, and returns the first. `offsets`: each
  /// row's position behind the layer's next one.
  mutating func claim(
    _ count: Int, span: Int, layer: Int, offsets: UnsafePointer<Int32>
  ) -> Int {
    let first = layers[layer].count
    precondition(first + count <= layers[layer].capacity, "KV arena: a layer is full")
    if let positions = layers[layer].positions {
      let next = layers[layer].nextPosition
      for row in 0..<count { positions[first + row] = next + offsets[row] }
    }
    layers[layer].count += count
    layers[layer].nextPosition += Int32(span)
    return first
  }

  /// What is there now stays, whatever becomes of rows that are claimed from here on.
  mutating func commit() {
    for layer in layers.indices {
      layers[layer].committed = (layers[layer].count, layers[layer].nextPosition)
    }
  }

  /// Takes back what was claimed since the last `commit`: some layers may have rows that others lack.
  mutating func rollBack() {
    for layer in layers.indices {
      (layers[layer].count, layers[layer].nextPosition) = layers[layer].committed
    }
  }

  mutating func removeAll() {
    for layer in layers.indices {
      layers[layer].count = 0
      layers[layer].nextPosition = 0
    }
    commit()
  }
}
