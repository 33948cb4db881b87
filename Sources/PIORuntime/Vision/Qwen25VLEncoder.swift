import PIOFormat

/// A layer of Qwen2.5-VL's tower: RMSNorm, and `down(silu(gate) · up)`.
struct Qwen25VLLayer: QwenLayer {
  let attentionNormWeight: UnsafePointer<Float>
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  let mlpNormWeight: UnsafePointer<Float>
  let gate: Linear
  let up: Linear
  let down: Linear
  let epsilon: Float

  init(_ index: Int, epsilon: Float, _ binding: Binding) {
    let name = "vision.layers.\(index)"
    attentionNormWeight = binding.small(name + ".attention_norm.weight")
    query = binding.linear(name + ".attention.query")
    key = binding.linear(name + ".attention.key")
    value = binding.linear(name + ".attention.value")
    output = binding.linear(name + ".attention.output")
    mlpNormWeight = binding.small(name + ".mlp_norm.weight")
    gate = binding.linear(name + ".mlp.gate")
    up = binding.linear(name + ".mlp.up")
    down = binding.linear(name + ".mlp.down")
    self.epsilon = epsilon
  }

  func attentionNorm(_ x: Rows, into out: Rows, _ operations: Operations) {
    operations.rmsNorm(x, attentionNormWeight, epsilon: epsilon, into: out)
  }

  func mlpNorm(_ x: Rows, into out: Rows, _ operations: Operations) {
    operations.rmsNorm(x, mlpNormWeight, epsilon: epsilon, into: out)
  }

  func mlp(_ normed: Rows, inner: Rows, gate gated: Rows, into x: Rows, _ operations: Operations) {
    var input = LinearInput(normed)
    operations.linear(&input, Product(gate, gated), Product(up, inner))
    operations.forEachRow(x.count, .siluMul(gate: gated, up: inner))
    var product = LinearInput(gated)
    operations.linear(&product, down, x, accumulate: true)
  }
}

extension QwenEncoder where Layer == Qwen25VLLayer {
  init(
    _ config: Qwen25VLConfig, _ regions: QwenRegions, _ parts: VisionParts,
    arena: borrowing Arena
  ) {
    let (operations, epsilon) = (parts.operations, config.tower.normEpsilon)
    let norm = parts.binding.small("projector.norm.weight")
    let merger = QwenMerger(config.tower, parts) { x, out in
      operations.rmsNorm(x, norm, epsilon: epsilon, into: out)
    }
    let full = Set(config.fullLayers)
    let tower = QwenTower(
      config.tower,
      layers: (0..<config.tower.layerCount).map { Layer($0, epsilon: epsilon, parts.binding) },
      merger: merger, regions, normalization: config.pixels.preprocessing(side: 1), parts,
      arena: arena, attendsToAll: { full.contains($0) })
    self.init(
      config.tower, config.pixels, window: config.window, tower: tower,
      observed: ObservedLayers(of: config.fullLayers), regions, parts, arena: arena)
  }
}
