import PIOFormat

/// What a tower's layers say of each visual token of a prompt, added to its row behind the decoder's first layers.
///
/// A row is found by the token that it is, wherever it stands: dropped rows change nothing for the others.
/// Source: Meng et al. 2024 (DeepStack), arXiv:2406.04334.
struct Deepstack {
  let layerCount: Int
  /// `(layerCount · tokens, dim)`: layer by layer, the tokens of all images behind each other.
  private let table: Rows
  private let tokenCapacity: Int

  init(_ regions: PromptRegions, dim: Int, arena: borrowing Arena) {
    (layerCount, tokenCapacity) = (regions.deepstackLayers, regions.deepstackTokens)
    table = Rows(
      base: arena.pointer(regions.deepstack), count: layerCount * tokenCapacity, dim: dim)
  }

  /// The tokens of one image, for the encoder to fill.
  struct Part {
    fileprivate let deepstack: Deepstack
    let tokens: Range<Int>
    var layerCount: Int { deepstack.layerCount }

    /// `(tokens, dim)`.
    subscript(layer: Int) -> Rows { deepstack.rows(layer).rows(tokens) }

    /// A copy of the rows of the tokens that `origins` names; none are named: of all.
    func rows(_ layer: Int, of origins: [Int32]) -> [Float] {
      let rows = self[layer]
      guard !origins.isEmpty else { return Array(rows.buffer) }
      return origins.flatMap { origin in
        origin < 0
          ? [] : Array(UnsafeBufferPointer(start: rows[Int(origin)], count: rows.dim))
      }
    }

    /// Puts such a copy back.
    func fill(_ layer: Int, of origins: [Int32], from values: ArraySlice<Float>) {
      let rows = self[layer]
      let tokens = origins.isEmpty ? Array(0..<Int32(rows.count)) : origins.filter { $0 >= 0 }
      precondition(values.count == tokens.count * rows.dim, "an encoded image")
      values.withUnsafeBufferPointer { values in
        for (index, token) in tokens.enumerated() {
          rows[Int(token)].update(from: values.baseAddress! + index * rows.dim, count: rows.dim)
        }
      }
    }
  }

  /// Of the image that comes next behind those in `visual`.
  func part(_ visual: VisualRows) -> Part {
    let first = firstToken(ofImage: visual.imageCount, visual)
    let count = layerCount > 0 ? visual.layouts[visual.imageCount].tokenCount : 0
    return Part(deepstack: self, tokens: first..<(first + count))
  }

  func add(
    behind layer: Int, to hidden: Rows, _ visual: VisualRows, _ operations: Operations
  ) {
    guard layer < layerCount else { return }
    for image in 0..<visual.imageCount {
      let (span, first) = (visual[image], firstToken(ofImage: image, visual))
      let tokens = first..<(first + visual.layouts[image].tokenCount)
      operations.forEachRow(
        span.count,
        .addOrigins(
          hidden.rows(span), table: rows(layer).rows(tokens),
          origins: visual.origins.baseAddress! + span.lowerBound))
    }
  }

  private func rows(_ layer: Int) -> Rows {
    table.rows((layer * tokenCapacity)..<((layer + 1) * tokenCapacity))
  }

  private func firstToken(ofImage image: Int, _ visual: VisualRows) -> Int {
    guard layerCount > 0 else { return 0 }
    var count = 0
    for index in 0..<image { count += visual.layouts[index].tokenCount }
    return count
  }
}
