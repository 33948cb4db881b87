import PIOFormat

/// A layer of Qwen2-VL's tower: LayerNorm, and two matrices with quick GELU between them.
struct Qwen2VLLayer: QwenLayer {
  let attentionNormWeights: LayerNormWeights
  let query: Linear
  let key: Linear
  let value: Linear
  let output: Linear
  let mlpNormWeights: LayerNormWeights
  let up: Linear
  let down: Linear
  let activation: Activation
  let epsilon: Float

  init(_ index: Int, _ config: Qwen2VLConfig, _ binding: Binding) {
    let name = "vision.layers.\(index)"
    attentionNormWeights = binding.layerNorm(name + ".attention_norm")
    query = binding.linear(name + ".attention.query")
    key = binding.linear(name + ".attention.key")
    value = binding.linear(name + ".attention.value")
    output = binding.linear(name + ".attention.output")
    mlpNormWeights = binding.layerNorm(name + ".mlp_norm")
    up = binding.linear(name + ".mlp.up")
    down = binding.linear(name + ".mlp.down")
    (activation, epsilon) = (config.activation, config.tower.normEpsilon)
  }

  func attentionNorm(_ x: Rows, into out: Rows, _ operations: Operations) {
    operations.layerNorm(x, attentionNormWeights, epsilon: epsilon, into: out)
  }

  func mlpNorm(_ x: Rows, into out: Rows, _ operations: Operations) {
    operations.layerNorm(x, mlpNormWeights, epsilon: epsilon, into: out)
  }

  func mlp(_ normed: Rows, inner: Rows, gate: Rows, into x: Rows, _ operations: Operations) {
    var input = LinearInput(normed)
    operations.linear(&input, up, inner)
    operations.activate(inner, activation)
    var activated = LinearInput(inner)
    operations.linear(&activated, down, x, accumulate: true)
  }
}

extension QwenEncoder where Layer == Qwen2VLLayer {
  init(
    _ config: Qwen2VLConfig, _ regions: QwenRegions, _ parts: VisionParts, arena: borrowing Arena
  ) {
    let (operations, epsilon) = (parts.operations, config.tower.normEpsilon)
    let norm = parts.binding.layerNorm("projector.norm")
    let merger = QwenMerger(config.tower, parts) { x, out in
      operations.layerNorm(x, norm, epsilon: epsilon, into: out)
    }
    let tower = QwenTower(
      config.tower,
      layers: (0..<config.tower.layerCount).map { Layer($0, config, parts.binding) },
      merger: merger, regions, normalization: config.pixels.preprocessing(side: 1), parts,
      arena: arena, attendsToAll: { _ in true })
    self.init(config.tower, config.pixels, window: 0, tower: tower, regions, arena: arena)
  }
}
