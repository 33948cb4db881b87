import PIOBase
import Foundation

@testable import PIOFormat

/// SplitMix64: the same numbers on every machine.
struct TestRandom: RandomNumberGenerator {
  var state: UInt64

  init(_ seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ z >> 30) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ z >> 27) &* 0x94D0_49BB_1331_11EB
    return z ^ z >> 31
  }
}

/// A small model of random shape, with random bytes for tensors.
struct Sample {
  var config: ModelConfig
  var encodings: [TensorEncoding]
  var tokenizer: [UInt8]
  var provenance: Provenance
  var data: [[UInt8]]

  init(seed: UInt64, vision: Bool? = nil) {
    var random = TestRandom(seed)
    let hasVision = vision ?? Bool.random(using: &random)
    config = randomConfig(vision: hasVision, &random)
    if hasVision && seed % 2 == 1 { config.addTiles() }
    if hasVision && seed % 4 == 2 { config.addSplitting(&random) }
    if hasVision && seed % 8 == 4 { config.addOwnShape(seed, &random) }
    let specs = tensorSpecs(for: config)
    encodings = specs.map { spec in
      allEncodings.filter { spec.role.allows($0) }.randomElement(using: &random)!
    }
    tokenizer = hasVision ? try! smallTokenizer().encoded() : []
    provenance = Provenance(
      converter: "pioedge test", recipe: "--weights mixed --seed \(seed)",
      sources: [
        .init(name: "modèle-00001.safetensors", sha256: String(repeating: "0a", count: 32))
      ])
    data = zip(specs, encodings).map { spec, encoding in
      (0..<byteCount(encoding, spec.shape)!).map { _ in
        UInt8(truncatingIfNeeded: random.next())
      }
    }
  }

  /// Writes the sample in chunks of random sizes.
  func write(to path: String, replacing: Bool = false, seed: UInt64 = 1) throws {
    var random = TestRandom(seed)
    var writer = try ModelWriter(
      path: path, config: config, encodings: encodings, tokenizerSection: tokenizer,
      provenance: provenance, replacing: replacing)
    let all = data.flatMap { $0 }
    var start = 0
    while start < all.count {
      let end = min(all.count, start + Int.random(in: 1...70_000, using: &random))
      try all[start..<end].withUnsafeBytes { try writer.append($0) }
      start = end
    }
    try writer.finish()
  }

  /// The file's bytes.
  func bytes() throws -> [UInt8] {
    try withTemporaryFolder { folder in
      try write(to: folder + "/a.piom")
      return try readFile(folder + "/a.piom")
    }
  }
}

/// Five pieces, one merge, one added token.
private func smallTokenizer() -> TokenizerContents {
  var contents = TokenizerContents()
  contents.flags = .byteLevel
  contents.steps = [.gpt2]
  for text in ["a", "b", "c", "ab"] {
    contents.pieces.append(.init(text: Array(text.utf8), key: Array(text.utf8), flags: .known))
  }
  contents.pieces.append(.init(text: Array("<image>".utf8), key: nil, flags: [.known, .special]))
  for (id, byte) in "abc".utf8.enumerated() { contents.byteIDs[Int(byte)] = Int32(id) }
  contents.merges = [.init(left: 0, right: 1, result: 3)]
  contents.added = [.init(id: 4, pattern: Array("<image>".utf8), normalized: false)]
  contents.beginIDs = [2]
  return contents
}

let allEncodings: [TensorEncoding] = TensorKind.allCases.flatMap { kind in
  TensorLayout.allCases.flatMap { layout in
    [0, 32, 64, 128].map { TensorEncoding(kind: kind, layout: layout, group: $0) }
  }
}

func randomConfig(vision: Bool, _ random: inout TestRandom) -> ModelConfig {
  var text = TextConfig()
  text.kvHeadCount = .random(in: 1...3, using: &random)
  text.headCount = text.kvHeadCount * .random(in: 1...3, using: &random)
  text.headDim = 2 * .random(in: 1...9, using: &random)
  text.dim = .random(in: 5...90, using: &random)
  text.hiddenDim = .random(in: 5...150, using: &random)
  text.layerCount = .random(in: 1...3, using: &random)
  text.vocabSize = .random(in: 20...300, using: &random)
  text.maxPositions = .random(in: 16...4096, using: &random)
  text.rmsNormEpsilon = 1.25e-6
  text.ropeTheta = 500_000.5
  text.ropeScaling = RopeScaling.allCases.randomElement(using: &random)!
  text.ropeAttentionFactor = 1.1
  text.queryKeyValueBias = .random(using: &random)
  text.attentionOutputBias = .random(using: &random)
  text.mlpBias = .random(using: &random)
  text.tiedHead = .random(using: &random)
  var prompt = PromptTemplate()
  prompt.name = "vicuna_v1"
  prompt.systemPrefix = ""
  prompt.defaultSystem = "Be short — 短く."
  prompt.userPrefix = "USER: "
  prompt.assistantPrefix = " ASSISTANT:"
  prompt.assistantSuffix = "</s>"
  prompt.addsBeginToken = .random(using: &random)
  let tokens = SpecialTokens(begin: 1, end: [2, 7], image: vision ? 5 : -1)
  return ModelConfig(
    text: text, vision: vision ? randomVision(&random) : nil, prompt: prompt,
    specialTokens: tokens)
}

private func randomVision(_ random: inout TestRandom) -> VisionConfig {
  var vision = LLaVAConfig()
  vision.tower.patchSize = .random(in: 2...14, using: &random)
  vision.tower.imageSize = vision.tower.patchSize * .random(in: 1...4, using: &random)
  vision.tower.headCount = .random(in: 1...4, using: &random)
  vision.tower.dim = vision.tower.headCount * .random(in: 3...20, using: &random)
  vision.tower.hiddenDim = .random(in: 5...100, using: &random)
  vision.tower.layerCount = .random(in: 0...2, using: &random)
  vision.tower.layerNormEpsilon = 1e-6
  vision.tower.activation = Activation.allCases.randomElement(using: &random)!
  vision.dropsClassToken = .random(using: &random)
  vision.projector.hiddenDim = .random(in: 5...70, using: &random)
  vision.projector.activation = .geluTanh
  vision.projector.bias = .random(using: &random)
  vision.preprocessing.resizeTo = vision.tower.imageSize
  vision.preprocessing.mean = (0.481, 0.457, 0.408)
  vision.preprocessing.std = (0.268, 0.261, 0.275)
  vision.preprocessing.padColor = (122, 116, 104)
  return .llava(vision)
}

extension ModelConfig {
  /// With all that only some models say.
  fileprivate mutating func addTiles() {
    text.slidingWindow = 7
    prompt.textPrefix = "\n"
    guard case .llava(let llava)? = vision else { preconditionFailure("a sample without vision") }
    var next = LLaVANextConfig()
    next.tower = llava.tower
    next.projector = llava.projector
    next.preprocessing = llava.preprocessing
    next.preprocessing.fit = .stretch
    let side = llava.tower.imageSize
    next.resolutions = (1...3).map {
      PixelSize(height: $0 * side, width: (4 - $0) * side)
    }
    vision = .llavaNext(next)
  }

  /// Qwen2-VL, Qwen2.5-VL or Qwen3-VL.
  fileprivate mutating func addOwnShape(_ seed: UInt64, _ random: inout TestRandom) {
    let half = text.headDim / 2
    let first = Int.random(in: 0...half, using: &random)
    text.ropeSections = [first, half - first, 0]
    var tower = QwenTowerConfig()
    tower.patchSize = .random(in: 2...9, using: &random)
    tower.headCount = .random(in: 1...3, using: &random)
    tower.dim = tower.headCount * 4 * .random(in: 1...4, using: &random)
    tower.hiddenDim = .random(in: 5...70, using: &random)
    tower.layerCount = .random(in: 1...3, using: &random)
    var pixels = PixelRange()
    (pixels.least, pixels.most) = (tower.cellSide * tower.cellSide, 1 << 20)
    pixels.mean = (0.481, 0.457, 0.408)
    if seed % 32 == 20 {
      (text.queryKeyNorm, text.ropeInterleaves) = (true, true)
      var qwen = Qwen3VLConfig()
      (qwen.tower, qwen.pixels) = (tower, pixels)
      qwen.positionsPerSide = .random(in: 1...9, using: &random)
      qwen.deepstackLayers = [tower.layerCount - 1]
      vision = .qwen3VL(qwen)
    } else if seed % 16 == 4 {
      var qwen = Qwen25VLConfig()
      (qwen.tower, qwen.pixels) = (tower, pixels)
      qwen.fullLayers = [tower.layerCount - 1]
      vision = .qwen25VL(qwen)
    } else {
      var qwen = Qwen2VLConfig()
      (qwen.tower, qwen.pixels) = (tower, pixels)
      vision = .qwen2VL(qwen)
    }
  }

  /// SmolVLM, with text between tiles and all that its prompt says.
  fileprivate mutating func addSplitting(_ random: inout TestRandom) {
    prompt.bareTextPrefix = " "
    prompt.conversationPrefix = "<|im_start|>"
    guard case .llava(let llava)? = vision else { preconditionFailure("a sample without vision") }
    var smol = SmolVLMConfig()
    smol.tower.patchSize = llava.tower.patchSize
    smol.shuffle = .random(in: 1...3, using: &random)
    smol.tower.imageSize =
      llava.tower.patchSize * smol.shuffle * .random(in: 1...2, using: &random) + 1
    (smol.tower.dim, smol.tower.headCount) = (llava.tower.dim, llava.tower.headCount)
    (smol.tower.hiddenDim, smol.tower.layerCount) = (llava.tower.hiddenDim, 2)
    smol.preprocessing.resizeTo = smol.tower.imageSize
    smol.preprocessing.mean = (0.5, 0.5, 0.5)
    smol.longestEdge = smol.tower.imageSize * 3 - 1
    smol.splits = .random(using: &random)
    let vocabSize = text.vocabSize
    smol.markers = TileMarkers(mostTiles: smol.mostTiles) { text in
      text.utf8.prefix(3).map { Int32($0) % Int32(vocabSize) }
    }
    vision = .smolVLM(smol)
  }
}

extension SpecialTokens {
  init(begin: Int32, end: [Int32], image: Int32) {
    self.init()
    self.begin = begin
    self.end = end
    self.image = image
  }
}

@discardableResult
func withTemporaryFolder<T>(_ body: (String) throws -> T) throws -> T {
  let folder = FileManager.default.temporaryDirectory.path + "/pioedge-" + UUID().uuidString
  try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
  defer { try? FileManager.default.removeItem(atPath: folder) }
  return try body(folder)
}

func readFile(_ path: String) throws -> [UInt8] {
  [UInt8](try Data(contentsOf: URL(fileURLWithPath: path)))
}

func entries(of folder: String) throws -> [String] {
  try FileManager.default.contentsOfDirectory(atPath: folder).sorted()
}
