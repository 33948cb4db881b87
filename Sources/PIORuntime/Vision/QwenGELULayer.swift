import PIOFormat

/// A layer of Qwen2-VL's and Qwen3-VL's towers: LayerNorm, and two matrices with a kind of GELU between them.
struct QwenGELULayer: QwenLayer {
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

  init(_ index: Int, _ activation: Activation, epsilon: Float, _ binding: Binding) {
    let name = "vision.layers.\(index)"
    attentionNormWeights = binding.layerNorm(name + ".attention_norm")
    query = binding.linear(name + ".attention.query")
    key = binding.linear(name + ".attention.key")
    value = binding.linear(name + ".attention.value")
    output = binding.linear(name + ".attention.output")
    mlpNormWeights = binding.layerNorm(name + ".mlp_norm")
    up = binding.linear(name + ".mlp.up")
    down = binding.linear(name + ".mlp.down")
    (self.activation, self.epsilon) = (activation, epsilon)
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

extension QwenEncoder where Layer == QwenGELULayer {
  /// A tower in which all patches attend to all.
  init(
    _ config: QwenTowerConfig, _ pixels: PixelRange, _ activation: Activation,
    places: LearnedPlaces? = nil, deepstack: [QwenDeepstackMerger] = [], _ regions: QwenRegions,
    _ parts: VisionParts, arena: borrowing Arena
  ) {
    let (operations, epsilon) = (parts.operations, config.normEpsilon)
    let norm = parts.binding.layerNorm("projector.norm")
    let merger = QwenMerger(config, parts) { x, out in
      operations.layerNorm(x, norm, epsilon: epsilon, into: out)
    }
    let tower = QwenTower(
      config,
      layers: (0..<config.layerCount).map {
        Layer($0, activation, epsilon: epsilon, parts.binding)
      },
      merger: merger, places: places, deepstack: deepstack, regions,
      normalization: pixels.preprocessing(side: 1), parts, arena: arena,
      attendsToAll: { _ in true })
    self.init(
      config, pixels, window: 0, tower: tower,
      observed: ObservedLayers(ofAll: config.layerCount), regions, parts, arena: arena)
  }
}
