import PIOBase
import PIOBench
import PIOFormat
import Testing

@testable import PIORuntime

/// Multiply-adds against numbers worked out by hand.
struct WorkTests {
  /// Two layers, width 8, two heads of 4, one for keys and values, hidden width 10, 100 tokens.
  private var text: TextConfig {
    var text = TextConfig()
    text.dim = 8
    text.hiddenDim = 10
    text.layerCount = 2
    text.headCount = 2
    text.kvHeadCount = 1
    text.headDim = 4
    text.vocabSize = 100
    return text
  }

  @Test func countsOneRowThroughEveryMatrix() {
    // A layer: keys and values 2·8·4 = 64, queries and output 2·8·8 = 128, MLP 3·8·10 = 240. The head: 800.
    let work = Work(prefilling: [1, 1], text)
    #expect(work.weightMACs == 2 * (64 + 128 + 240) + 800)
    // Queries and probabilities, 8 wide, one key: 16 a layer.
    #expect(work.attentionMACs == 32)
  }

  @Test func countsOneRowAloneBehindTheLastLayersKeys() {
    // Layer 1: 3 rows of everything. Layer 2: keys and values of 3 rows, the rest of one.
    let work = Work(prefilling: [3, 3], text)
    #expect(work.weightMACs == 3 * 432 + (3 * 64 + 368) + 800)
    // Layer 1: 1 + 2 + 3 = 6 pairs of row and key, 16 each; layer 2: the last row's 3.
    #expect(work.attentionMACs == 6 * 16 + 3 * 16)
  }

  @Test func countsEachLayersOwnRows() {
    let work = Work(prefilling: [5, 2], text)
    #expect(work.weightMACs == 5 * 432 + (2 * 64 + 368) + 800)
    #expect(work.attentionMACs == 15 * 16 + 2 * 16)
  }

  @Test func countsAnImageToTheDecodersWidth() {
    var llava = LLaVAConfig()
    llava.tower.imageSize = 4
    llava.tower.patchSize = 2
    llava.tower.dim = 6
    llava.tower.hiddenDim = 9
    llava.tower.layerCount = 2
    llava.tower.headCount = 2
    llava.projector.hiddenDim = 7
    // 4 patches of 3·2·2 = 12 numbers: 4·12·6 = 288. 5 positions, a layer 5·(4·36 + 2·54) = 1260.
    // Projector: 4·(6·7 + 7·8) = 392.
    let work = Work(encodingAnImageFor: 8, .llava(llava))
    #expect(work.weightMACs == 288 + 2 * 1260 + 392)
    // Every position with every one: 25 · 6 twice, in 2 layers.
    #expect(work.attentionMACs == 2 * 2 * 25 * 6)
    llava.dropsClassToken = false
    #expect(Work(encodingAnImageFor: 8, .llava(llava)).weightMACs == 288 + 2 * 1260 + 490)
  }

  /// TinyLlama's published shape: 1.1 billion weights, of which 65.5 million are the embedding's.
  @Test func countsATokenOfTinyLlamaAsItsWeights() {
    var text = TextConfig()
    (text.dim, text.hiddenDim, text.layerCount) = (2048, 5632, 22)
    (text.headCount, text.kvHeadCount, text.headDim, text.vocabSize) = (32, 4, 64, 32_000)
    let rows = Array(repeating: 1, count: 22)
    #expect(Work(prefilling: rows, text).weightMACs == 1_034_420_224)
    // 22 layers of 4 heads, 64 keys and 64 values of 2 bytes; int8 with a scale of 4 bytes each.
    #expect(Work.cacheByteCount(rows: 10, text, kv: .f16) == 10 * 22 * 4 * 256)
    #expect(Work.cacheByteCount(rows: 10, text, kv: .int8) == 10 * 22 * 4 * 136)
  }

  @Test(arguments: [false, true])
  func decodingReadsTheLayersAndTheHeadOnce(_ isTied: Bool) throws {
    var text = text
    text.maxPositions = 16
    text.tiedHead = isTied
    var special = SpecialTokens()
    special.end = [2]
    let config = ModelConfig(
      text: text, vision: nil, prompt: PromptTemplate(), specialTokens: special)
    let layout = try ModelLayout(
      config: config, encodings: tensorSpecs(for: config).map { _ in .f32 },
      tokenizerByteCount: 0,
      provenance: Provenance(converter: "test", recipe: "f32", sources: []))
    // In f32: a layer's 432 weights and two norms of 8, the last norm, the head.
    let bytes = 4 * (2 * (432 + 16) + 8 + 800)
    #expect(Work.decodeWeightByteCount(layout.tensors, text) == bytes)
  }

  @Test func samplesTellMedianAndShare() {
    let odd = Samples(times: [3, 1, 2], limits: [2, 2, 4])
    #expect(odd.median == 2 && odd.smallest == 1 && odd.largest == 3)
    // 10⁶ units in 3, 1 and 2 ms are 1/3, 1 and 1/2 GU/s: of 2, 2 and 4 that is 1/6, 1/2 and 1/8.
    #expect(abs(odd.share(units: 1e6) - 1 / 6) < 1e-12)
    #expect(Samples(times: [4, 1, 3, 2]).median == 2.5)
  }
}

/// What the paper's headline model saves, counted: LLaVA-NeXT-7B, five tiles, 320 of 2,880 tokens on average.
struct TiledWorkTests {
  @Test func aNinthOfTheTokensIsASixthOfWorkAndCache() throws {
    var text = TextConfig()
    (text.dim, text.hiddenDim, text.layerCount) = (4096, 11008, 32)
    (text.headCount, text.kvHeadCount, text.headDim, text.vocabSize) = (32, 32, 128, 32_064)
    let around = Benchmark.textRowsWithPrunedImage
    let schedule = try Schedule(averaging: 320, of: 2880, layerCount: text.layerCount)
    let tokens = schedule.tokens(2880, layerCount: text.layerCount)
    #expect(tokens.reduce(0, +) <= 320 * text.layerCount)
    // An end of line for each of the 48 lines, at most.
    let rows = tokens.map { around + $0 + min(48, $0) }
    let whole = [Int](repeating: around + 2880 + 48, count: text.layerCount)
    func macs(_ rows: [Int]) -> Int {
      let work = Work(prefilling: rows, text)
      return work.weightMACs + work.attentionMACs
    }
    var stages = 0
    for stage in schedule.stages {
      let entering = rows[max(0, stage.afterLayer - 1)]
      stages += Saliency.macs(
        text, rows: entering, proxies: 4, visualRows: entering - around)
    }
    let fewerMACs = Double(macs(whole)) / Double(macs(rows) + stages)
    let smallerCache = Double(whole.reduce(0, +)) / Double(rows.reduce(0, +))
    print("7B, 320 of 2880: \(fewerMACs) times fewer MACs, cache \(smallerCache) times smaller")
    #expect(fewerMACs > 6.22 && smallerCache > 6.05)
  }
}
