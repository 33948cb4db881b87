import CPIOKernels
import PIOFormat
import PIOThreads

/// `(head, proxy, headDim)`: rows of the query heads of one KV head are neighbours.
struct HeadRows {
  let queries, attended, slopes: Rows
  let proxyCount: Int
  let groupCount: Int

  /// Rows of one KV head.
  var rowsPerGroup: Int { queries.count / groupCount }
}

/// The steps of a saliency that are no product with weights, on all threads.
struct SaliencyWork: ParallelBody {
  enum Step {
    /// Scores against a chunk of keys, whose first is row `first` of the probe.
    case scores(Rows, first: Int)
    /// The same against the rows of earlier turns.
    case earlierScores
    case softmax
    case attended
    /// Back through the norm of the second rows, in place of the first.
    case normBack(Rows, Rows, UnsafePointer<Float>)
    /// Back through SwiGLU: gate, up, and the derivative by their product.
    case gateBack(Rows, Rows, Rows)
    case add(Rows, Rows)
    /// Derivatives by a chunk's keys.
    case keySlopes(Rows, first: Int)
    case rotateBack(Rows, first: Int)
    /// Back through the norm of each head of a chunk's keys, which are the second rows in front of it.
    case headNormBack(Rows, Rows, HeadNorm)
    /// Adds the part of a chunk's derivative that comes through the values.
    case valueSlopes(Rows, Rows, first: Int)
    /// Back through the first norm, and the lengths of what comes out.
    case lengths(Rows, first: Int, out: UnsafeMutablePointer<Float>)
  }

  let operations: Operations
  let config: TextConfig
  /// Nil where only a cache is looked at.
  private let block: Probe?
  private let cache: LayerCache
  private let earlierRows: Int
  let heads: HeadRows
  /// `(head · proxy, earlier rows, then the probe's)`.
  let weights: Rows
  let slopes: Rows
  let values: Rows
  private var step = Step.softmax

  /// Positions of a cache that are read at a time.
  private static let tileRows = 64

  init(
    operations: Operations, config: TextConfig, probe: Probe, heads: HeadRows, weights: Rows,
    slopes: Rows, values: Rows
  ) {
    self.operations = operations
    self.config = config
    self.heads = heads
    self.weights = weights
    self.slopes = slopes
    self.values = values
    block = probe
    cache = probe.cache
    earlierRows = probe.earlierRows
  }

  /// For the scores against a cache alone, and their softmax.
  init(
    operations: Operations, config: TextConfig, cache: LayerCache, heads: HeadRows, weights: Rows
  ) {
    self.operations = operations
    self.config = config
    self.heads = heads
    self.weights = weights
    self.cache = cache
    slopes = weights.rows(0..<0)
    values = weights.rows(0..<0)
    block = nil
    earlierRows = cache.count
  }

  private var probe: Probe { block! }
  private var rotationFloats: Int { config.headDim / 2 }
  private var scale: Float { 1 / Float(config.headDim).squareRoot() }
  private var columnsPerTask: Int { 64 }

  func run(_ step: Step) {
    var work = self
    work.step = step
    operations.pool.run(work.taskCount, work)
  }

  private var taskCount: Int {
    switch step {
    case .scores, .earlierScores, .attended, .keySlopes: config.kvHeadCount
    case .softmax: heads.queries.count
    case .normBack(let rows, _, _), .gateBack(let rows, _, _), .add(let rows, _),
      .rotateBack(let rows, _), .headNormBack(let rows, _, _), .lengths(let rows, _, _):
      rows.count
    case .valueSlopes: (config.dim + columnsPerTask - 1) / columnsPerTask
    }
  }

  func run(task: Int, thread: Int) {
    let kernels = operations.kernels
    let gradients = kernels.gradients
    switch step {
    case .scores(let keys, let first):
      score(task, keys, at: earlierRows + first)
    case .earlierScores: scoreEarlier(task, thread)
    case .softmax: softmax(task)
    case .attended: attend(task, thread)
    case .normBack(let slope, let x, let weight):
      gradients.rms_norm_back(
        slope[task], slope[task], x[task], weight, config.rmsNormEpsilon, x.dim)
    case .gateBack(let gate, let up, let slope):
      gradients.silu_mul_back(gate[task], up[task], slope[task], gate.dim)
    case .add(let sum, let other): kernels.add(sum[task], other[task], sum.dim)
    case .keySlopes(let keys, let first): keySlopes(task, keys, first)
    case .rotateBack(let keys, let first):
      let angles = (first + task) * rotationFloats
      gradients.rope_back(
        keys[task], probe.rotations.cosines + angles, probe.rotations.sines + angles,
        config.kvHeadCount, config.headDim)
    case .headNormBack(let slope, let x, let norm):
      for start in stride(from: 0, to: slope.dim, by: config.headDim) {
        let head = slope[task] + start
        gradients.rms_norm_back(
          head, head, x[task] + start, norm.weight, norm.epsilon, config.headDim)
      }
    case .valueSlopes(let dx, let projected, let first):
      valueSlopes(task * columnsPerTask, dx, projected, first)
    case .lengths(let dx, let first, let out):
      let row = dx[task]
      gradients.rms_norm_back(
        row, row, probe.hidden[first + task], probe.weights.attentionNorm, config.rmsNormEpsilon,
        dx.dim)
      kernels.gemm_f32(out + task, 1, row, dx.dim, row, dx.dim, 1, 1, dx.dim, nil, 0)
      out[task] = out[task].squareRoot()
    }
  }

  private func firstPair(_ group: Int) -> Int { group * heads.rowsPerGroup }

  /// All scores of one KV head with a chunk of keys.
  private func score(_ group: Int, _ keys: Rows, at column: Int) {
    let pair = firstPair(group)
    operations.kernels.gemm_f32(
      weights[pair] + column, weights.dim, keys.base + group * config.headDim, keys.dim,
      heads.queries[pair], config.headDim, heads.rowsPerGroup, keys.count, config.headDim, nil, 0)
  }

  /// Calls `body` with f32 copies of the earlier turns' rows of one KV head, a tile at a time.
  private func forEachTile(
    _ group: Int, _ thread: Int, values: Bool, _ body: (Rows, Int) -> Void
  ) {
    let tile = operations.attentionScratch + thread * operations.attentionFloats
    var view = cache.head(group)
    var begin = 0
    while begin < earlierRows {
      let count = min(Self.tileRows, earlierRows - begin)
      operations.kernels.gradients.kv_read(tile, &view, values ? 1 : 0, begin, count)
      body(Rows(base: tile, count: count, dim: config.headDim), begin)
      begin += count
    }
  }

  private func scoreEarlier(_ group: Int, _ thread: Int) {
    let pair = firstPair(group)
    forEachTile(group, thread, values: false) { keys, begin in
      operations.kernels.gemm_f32(
        weights[pair] + begin, weights.dim, keys.base, keys.dim, heads.queries[pair],
        config.headDim, heads.rowsPerGroup, keys.count, config.headDim, nil, 0)
    }
  }

  /// One proxy row's attention in one head; what lies behind it gets none.
  private func softmax(_ pair: Int) {
    let visible = block.map { $0.proxies.lowerBound + pair % heads.proxyCount + 1 } ?? 0
    let behind = (block?.proxies.upperBound ?? 0) - visible
    let seen = earlierRows + visible
    let first =
      block.map { $0.firstVisible(from: visible - 1) } ?? cache.firstVisible(fromRow: seen - 1)
    weights[pair].update(repeating: 0, count: first)
    operations.kernels.gradients.softmax(weights[pair] + first, scale, seen - first)
    (weights[pair] + seen).update(repeating: 0, count: behind)
  }

  /// Attended values of all pairs of one KV head.
  private func attend(_ group: Int, _ thread: Int) {
    let pair = firstPair(group)
    let gradients = operations.kernels.gradients
    let probed = pio_floats(
      data: values.base + group * config.headDim, stride: values.dim, kind: UInt32(PIO_F32.rawValue)
    )
    gradients.gemm_transposed_float(
      heads.attended[pair], config.headDim, probed, weights[pair] + earlierRows, weights.dim, 1,
      heads.rowsPerGroup, probe.proxies.upperBound, config.headDim, 0)
    forEachTile(group, thread, values: true) { rows, begin in
      let earlier = pio_floats(
        data: rows.base, stride: rows.dim, kind: UInt32(PIO_F32.rawValue))
      gradients.gemm_transposed_float(
        heads.attended[pair], config.headDim, earlier, weights[pair] + begin, weights.dim, 1,
        heads.rowsPerGroup, rows.count, config.headDim, 1)
    }
  }

  /// `Σ z q̃` for the keys of one KV head, z = a (⟨dO, V⟩ − ⟨dO, O⟩) / √headDim.
  private func keySlopes(_ group: Int, _ keys: Rows, _ first: Int) {
    let pair = firstPair(group)
    let count = heads.rowsPerGroup
    let kernels = operations.kernels
    kernels.gemm_f32(
      slopes[pair], slopes.dim, values[first] + group * config.headDim, values.dim,
      heads.slopes[pair], config.headDim, count, keys.count, config.headDim, nil, 0)
    for index in pair..<(pair + count) {
      var mean: Float = 0
      kernels.gemm_f32(
        &mean, 1, heads.slopes[index], config.headDim, heads.attended[index], config.headDim, 1, 1,
        config.headDim, nil, 0)
      let slope = slopes[index]
      let attention = weights[index] + earlierRows + first
      for row in 0..<keys.count { slope[row] = attention[row] * (slope[row] - mean) * scale }
    }
    let queries = pio_floats(
      data: heads.queries[pair], stride: config.headDim, kind: UInt32(PIO_F32.rawValue))
    kernels.gradients.gemm_transposed_float(
      keys.base + group * config.headDim, keys.dim, queries, slopes[pair], 1, slopes.dim,
      keys.count, count, config.headDim, 0)
  }

  /// `dx += Σ a (W_vᵀ dO)`, some columns of it.
  private func valueSlopes(_ column: Int, _ dx: Rows, _ projected: Rows, _ first: Int) {
    let part = pio_floats(
      data: projected.base + column, stride: projected.dim, kind: UInt32(PIO_F32.rawValue))
    operations.kernels.gradients.gemm_transposed_float(
      dx.base + column, dx.dim, part, weights.base + earlierRows + first, 1, weights.dim,
      dx.count, heads.queries.count, min(columnsPerTask, dx.dim - column), 1)
  }
}
