import CPIOKernels
import PIOFormat

/// Keys and values of one layer, a slice of the KV arena; it never grows.
///
/// Layout: keys `(kvHead, capacity, headDim)`, values likewise, then for int8 the scales `(kvHead, capacity)` of
/// keys and of values; one head's past is contiguous.
struct LayerCache {
  let base: UnsafeMutableRawPointer
  let kind: KVKind
  let headCount: Int
  let headDim: Int
  /// Positions, fixed by the plan.
  let capacity: Int
  /// Rows filled.
  var count = 0
  /// The position of the next row: after pruning it need not be the count.
  var nextPosition: Int32 = 0

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

  init(_ plan: Plan, text: TextConfig, arena: borrowing Arena) {
    base = UnsafeMutableRawPointer(arena.pointer(plan.kv))
    let rowBytes = text.kvHeadCount * plan.limits.kv.byteCount(headDim: text.headDim)
    var offset = 0
    var layers: [LayerCache] = []
    for capacity in plan.layerCapacities {
      layers.append(
        LayerCache(
          base: base + offset, kind: plan.limits.kv, headCount: text.kvHeadCount,
          headDim: text.headDim, capacity: capacity))
      offset += Plan.layerByteCount(capacity, rowBytes)
    }
    self.layers = layers
  }

  /// Takes `count` rows of a layer into use, which reach over `span` positions, and returns the first.
  mutating func claim(_ count: Int, span: Int, layer: Int) -> Int {
    let first = layers[layer].count
    precondition(first + count <= layers[layer].capacity, "KV arena: a layer is full")
    layers[layer].count += count
    layers[layer].nextPosition += Int32(span)
    return first
  }

  mutating func removeAll() {
    for layer in layers.indices {
      layers[layer].count = 0
      layers[layer].nextPosition = 0
    }
  }
}
