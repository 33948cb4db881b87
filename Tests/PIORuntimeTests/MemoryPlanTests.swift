import PIOBase
import PIOFormat
import Testing

@testable import PIORuntime

struct MemoryPlanTests {
  private func limits(_ change: (inout Limits) -> Void = { _ in }) -> Limits {
    var limits = Limits()
    limits.isConversation = false
    limits.threadCount = 4
    change(&limits)
    return limits
  }

  private func plan(_ model: ModelSizes, _ limits: Limits) throws -> Plan {
    try Plan(model, limits: limits, process: testProcess)
  }

  @Test(arguments: [false, true], [KVKind.f16, .int8])
  func staysUnderEveryCapFromTheSmallestOn(_ isConversation: Bool, _ kv: KVKind) throws {
    for model in ModelShapes.all {
      var limits = limits {
        $0.isConversation = isConversation
        $0.kv = kv
      }
      let free = try plan(model, limits)
      var resident = -1
      let step = max(1, (free.peakBytes - free.smallestCapBytes) / 23)
      for cap in stride(from: free.smallestCapBytes, to: free.peakBytes + step, by: step) {
        limits.memoryCap = cap
        let plan = try plan(model, limits)
        #expect(plan.fits && plan.peakBytes <= cap)
        // The greedy choice is by count of units, which differ in size: not strictly monotone in bytes.
        #expect(plan.residentWeightBytes >= resident - (16 << 20), "cap \(cap)")
        resident = plan.residentWeightBytes
        #expect(
          plan.streamedBytesPerToken + plan.residentWeightBytes >= free.residentWeightBytes * 9 / 10
        )
      }
      #expect(resident == free.residentWeightBytes)
      limits.memoryCap = free.smallestCapBytes - 1
      #expect(try plan(model, limits).fits == false)
    }
  }

  @Test func usesMostOfWhatItIsGiven() throws {
    // Between the smallest cap and the whole model, at most two layers of the cap are left unused.
    let free = try plan(ModelShapes.llava7B, limits())
    let cap = (free.smallestCapBytes + free.peakBytes) / 2
    let capped = try plan(ModelShapes.llava7B, limits { $0.memoryCap = cap })
    let layer = WeightUnits.residentByteCount(capped.residency.units.layers[0])
    #expect(capped.peakBytes > cap - 2 * layer)
  }

  @Test func theSmallestCapIsAFractionOfTheFile() throws {
    let model = ModelShapes.llava7B
    let plan = try plan(model, limits())
    #expect(plan.smallestCapBytes - plan.arena.kvByteCount < model.fileByteCount / 8)
    #expect(plan.peakBytes < model.fileByteCount + (1 << 30))
  }

  @Test func phasesShareTheirMemory() throws {
    let model = ModelShapes.llava7B
    let plan = try plan(model, limits())
    #expect(plan.phases.map(\.name) == ["image", "encoder", "decoder"])
    #expect(plan.peakBytes == plan.phases.map(\.bytes).max())
    let sum = plan.phases.reduce(0) { $0 + $1.bytes }
    #expect(plan.peakBytes < sum)
    let tower = plan.phases[1].parts.first { $0.name == "vision weights" }
    let later = plan.phases[2].parts.first { $0.name == "vision weights" }
    #expect(tower!.bytes > 100 << 20 && later?.bytes ?? 0 == 0)
  }

  @Test func mappedPlainlyTheTowerStays() throws {
    let model = ModelShapes.llava7B
    let plan = try plan(model, limits { $0.stream = .off })
    let free = try self.plan(model, limits())
    #expect(plan.peakBytes > free.peakBytes + (100 << 20))
    #expect(plan.streamedBytesPerToken == 0)
  }

  @Test func aConversationHasItsCacheWhileImagesCome() throws {
    let model = ModelShapes.tinyLlama
    let single = try plan(model, limits { $0.imageCount = 4 })
    let chat = try plan(
      model,
      limits {
        $0.imageCount = 4
        $0.isConversation = true
      })
    let difference = chat.phases[1].bytes - single.phases[1].bytes
    #expect(difference >= single.arena.kvByteCount)
  }

  @Test func streamingReadsWhatDoesNotStay() throws {
    let plan = try plan(ModelShapes.llava7B, limits { $0.stream = .on })
    #expect(plan.residentWeightBytes == 0)
    #expect(plan.streamedBytesPerToken == plan.residency.decoderUnits.reduce(0) { $0 + $1.count })
  }

  @Test func namesWhatWouldHelp() throws {
    let model = ModelShapes.llava7B
    let base = try plan(model, limits())
    let cap = base.smallestCapBytes - (40 << 20)
    let tight = limits { $0.memoryCap = cap }
    let remedies = Plan.remedies(model, limits: tight, process: testProcess)
    #expect(remedies.contains("--kv int8"))
    let helped = try plan(
      model,
      limits {
        $0.memoryCap = cap
        $0.kv = .int8
      })
    #expect(helped.fits)
    let plain = limits {
      $0.memoryCap = base.smallestCapBytes
      $0.stream = .off
    }
    #expect(
      Plan.remedies(model, limits: plain, process: testProcess).contains("--stream auto"))
  }

  @Test func prefillGoesInShorterChunksBeforeItGivesUp() throws {
    let model = ModelShapes.llava7B
    let free = try plan(model, limits())
    #expect(free.arena.chunkRows == 128)
    let least = try plan(model, limits { $0.memoryCap = free.smallestCapBytes })
    #expect(least.arena.chunkRows == 16)
  }

  @Test func fewerVisualTokensTakeLess() throws {
    let model = ModelShapes.llava7B
    let all = try plan(model, limits())
    let pruned = try plan(model, limits { $0.pruning.budget = .average(64) })
    // 512 rows fewer a layer on average, 16 KiB a row.
    let rows = (all.arena.kvByteCount - pruned.arena.kvByteCount) / (32 * 16384)
    #expect((510...513).contains(rows))
  }

  /// Beside the decoder's own scratch, whose bytes it shares: less than a number for each row and dimension.
  @Test(arguments: [64, 512, 1024])
  func aPruningStageTakesLessThanTheRowsItLooksAt(contextRows: Int) throws {
    for model in [ModelShapes.llava7B, ModelShapes.tinyLlama] {
      func scratch(_ method: PruneMethod) throws -> Int {
        let arena = try plan(
          model,
          limits {
            $0.contextRows = contextRows
            $0.pruning.method = method
            $0.pruning.budget = .average(64)
          }
        ).arena
        return arena.decoderEnd - arena.sharedEnd
      }
      let text = model.config.text
      let extra = try scratch(.pio) - scratch(.none)
      #expect(extra < 4 * (contextRows + 576) * text.dim, "\(extra)")
      // With few heads of keys the decoder's scratch is the larger one.
      if text.kvHeadCount < text.headCount { #expect(extra == 0) }
      #expect(try scratch(.uniform) == scratch(.none))
    }
  }

  /// The plan is of what runs: this checkpoint crops out of a larger image, so that padding takes other buffers.
  @Test(arguments: [ImagePreprocessing.Fit.crop, .pad])
  func aRuntimeIsPlannedForItsFit(_ fit: ImagePreprocessing.Fit) throws {
    let path = try Files.demoCroppedFrom(672)
    let file = try ModelFile(path: path)
    var config = file.config
    guard case .llava(var llava) = config.vision else { throw RuntimeError.modelTakesNoImages }
    llava.preprocessing = llava.preprocessing.with(fit: fit, side: llava.tower.imageSize)
    config.vision = .llava(llava)
    let layout = try ModelLayout(
      config: file.config, encodings: file.tensors.map(\.encoding),
      tokenizerByteCount: file.tokenizerSection.count,
      provenance: Provenance(converter: "test", recipe: "int8", sources: []))
    let pieceBytes = try loadTokenizer(of: file).maxPieceByteCount
    let expected = try plan(
      ModelSizes(layout, config: config, maxPieceBytes: pieceBytes), limits())
    let runtime = try Runtime(
      ModelFile(path: path), limits: limits(), fit: fit, process: testProcess)
    #expect(runtime.config == config)
    #expect(runtime.plan.arena == expected.arena)
  }

  /// What was planned for the demo when these numbers were written down: image, encoder and decoder, and the smallest
  /// cap, beside the process itself. A change must be meant.
  @Test(arguments: demoPlans)
  private func theDemoIsPlannedByteForByte(_ expected: DemoPlan) throws {
    let file = try ModelFile(
      path: Files.model("tools/demo/checkpoint", weights: .int4, vision: .int8))
    let pieceBytes = try loadTokenizer(of: file).maxPieceByteCount
    let limits = limits {
      $0.threadCount = 2
      expected.change(&$0)
    }
    let plan = try plan(ModelSizes(file, maxPieceBytes: pieceBytes), limits)
    let process = testProcess.baseBytes
    #expect(plan.phases.map { $0.bytes - process } == expected.phases)
    #expect(plan.smallestCapBytes - process == expected.smallestCap)
    #expect(plan.arena.chunkRows == expected.chunkRows)
  }

  @Test func textModelsHaveOnePhase() throws {
    let plan = try plan(ModelShapes.textOnly, limits { $0.imageCount = 0 })
    #expect(plan.phases.map(\.name) == ["decoder"])
    #expect(plan.codecByteCount == 0)
  }
}

private struct DemoPlan: CustomTestStringConvertible, Sendable {
  let testDescription: String
  var chunkRows = 128
  let phases: [Int]
  let smallestCap: Int
  let change: @Sendable (inout Limits) -> Void
}

private let demoPlans = [
  DemoPlan(
    testDescription: "as it comes", phases: [16_848_000, 9_451_008, 14_133_760],
    smallestCap: 16_740_480
  ) { _ in },
  DemoPlan(
    testDescription: "a chat", phases: [27_952_320, 20_555_328, 15_211_072],
    smallestCap: 24_371_392
  ) {
    $0.isConversation = true
    $0.contextRows = 100
    $0.imageCount = 3
  },
  DemoPlan(
    testDescription: "streamed", phases: [16_989_056, 6_839_552, 11_587_840],
    smallestCap: 16_881_536
  ) {
    $0.stream = .on
    $0.threadCount = 3
  },
  DemoPlan(
    testDescription: "in f32", phases: [27_851_776, 12_748_800, 27_851_776],
    smallestCap: 26_991_616
  ) {
    $0.stream = .off
    $0.compute = .f32
    $0.kv = .f32
  },
  DemoPlan(
    testDescription: "pruned", phases: [16_868_864, 9_471_872, 12_183_808],
    smallestCap: 16_761_344
  ) { $0.pruning.budget = .average(16) },
  DemoPlan(
    testDescription: "pruned in the encoder", phases: [15_896_096, 8_697_824, 7_062_432],
    smallestCap: 15_788_576
  ) {
    $0.pruning.budget = .average(8)
    $0.pruning.method = .visionzip
    $0.imageCount = 2
    $0.contextRows = 90
  },
  DemoPlan(
    testDescription: "below the smallest cap", chunkRows: 16,
    phases: [15_008_064, 4_256_448, 5_928_640], smallestCap: 15_008_064
  ) {
    $0.memoryCap = testProcess.baseBytes + (25600 << 10) - (19 << 20)
    $0.contextRows = 80
  },
]

extension Files {
  /// The demo as if its checkpoint resized the shorter edge to `edge` pixels before it crops.
  fileprivate static func demoCroppedFrom(_ edge: Int) throws -> String {
    try made("demo-cropped-from-\(edge).piom") { path in
      let demo = try ModelFile(path: model("tools/demo/checkpoint", weights: .int8, vision: .int8))
      var config = demo.config
      guard case .llava(var llava) = config.vision else { throw RuntimeError.modelTakesNoImages }
      llava.preprocessing.resizeTo = edge
      config.vision = .llava(llava)
      var writer = try ModelWriter(
        path: path, config: config, encodings: demo.tensors.map(\.encoding),
        tokenizerSection: Array(demo.tokenizerSection),
        provenance: Provenance(converter: "test", recipe: "int8", sources: []), replacing: true)
      for index in demo.tensors.indices { try writer.append(demo.data(index)) }
      try writer.finish()
    }
  }
}
