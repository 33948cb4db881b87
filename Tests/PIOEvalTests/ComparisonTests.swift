import PIOBase
import PIOEval
import PIOFormat
import PIORuntime
import Testing

struct ComparisonTests {
  private let demo = Comparison.Shape(tokens: 576, layers: 8)

  private func compare(_ names: String, _ budgets: [Comparison.Budget]) throws -> Comparison {
    Comparison(
      try Variant.list(names, seed: 0), budgets: budgets, shape: demo)
  }

  @Test func everyMethodReachesAnAverageWithinOneTokenOrSaysWhyNot() throws {
    for budget in [192, 160, 128, 64, 32] {
      let comparison = try compare("all", [.average(budget)])
      for cell in comparison.sections[0].cells {
        if let setting = cell.setting {
          let average = comparison.settings[setting].average
          #expect(average <= Double(budget) && average > Double(budget - 1), "\(cell.variant.name)")
        } else {
          // Two of eight layers see everything before these cut.
          #expect(["fastv", "dart"].contains(cell.variant.name) && budget < 146)
          #expect(cell.problem?.contains("smallest is 145") == true)
        }
      }
    }
  }

  /// What is kept of an image is kept with what is added behind the decoder's first layers, here two.
  @Test func countsTheRowsOfEncodedImages() throws {
    var qwen = Qwen3VLConfig()
    (qwen.tower.patchSize, qwen.tower.layerCount, qwen.deepstackLayers) = (6, 4, [0, 2])
    (qwen.pixels.least, qwen.pixels.most) = (144, 576 * 144)
    let vision = VisionConfig.qwen3VL(qwen)
    let whole = vision.maxRowCount
    let shape = Comparison.Shape(tokens: vision.maxVisualTokenCount, layers: 8)
    for (methods, controls, rows) in [
      ("pio", [], whole), ("pio", [.grey, .wrong], 3 * whole),
      ("windowzip", [], whole + 64), ("pio,windowzip,visionzip", [.grey], 2 * whole + 128),
      ("windowzip+pio,divprune", [], whole + 96),
    ] as [(String, [Comparison.Setting.Image], Int)] {
      let comparison = Comparison(
        try Variant.list(methods, seed: 0), budgets: [.average(64)], shape: shape,
        controls: controls)
      #expect(comparison.keptRows(vision) == 3 * rows, "\(methods), \(controls)")
    }
  }

  /// Methods that a model lacks are none of all.
  @Test func allMethodsAreThoseOfTheModel() throws {
    var text = TextConfig()
    text.ropeSections = [1, 1, 1]
    for (vision, without) in [
      (VisionConfig.qwen2VL(Qwen2VLConfig()), ["published"]),
      (.smolVLM(SmolVLMConfig()), ["windowzip", "windowzip+pio"]),
    ] {
      var model = ModelConfig(
        text: text, vision: vision, prompt: PromptTemplate(), specialTokens: SpecialTokens())
      if case .smolVLM = vision { model.text.ropeSections = [] }
      let names = try Variant.list("all", seed: 0, of: model).map(\.name)
      #expect(names == Variant.allNames.filter { !without.contains($0) })
    }
  }

  @Test func noLayerExceedsAPeak() throws {
    let comparison = try compare("all", [.peak(96)])
    for cell in comparison.sections[0].cells {
      if let setting = cell.setting {
        #expect(comparison.settings[setting].peak == 96, "\(cell.variant.name)")
      } else {
        #expect(["fastv", "dart"].contains(cell.variant.name))
      }
    }
  }

  /// What is the same is asked once, whatever it is called.
  @Test func equalSettingsAreOne() throws {
    let cut = Comparison.Budget.stages([Schedule.Stage(afterLayer: 2, keep: 64)])
    let comparison = try compare(
      "fastv,uniform,uniform:seed=7,uniform:nms-threshold=0.5",
      [
        cut, .average(192), .average(576), .peak(600),
      ])
    // Unpruned, each method at 2:64, and uniform's own; FastV's average of 192 is that cut.
    #expect(comparison.settings.count == 4)
    #expect(comparison.sections[0].cells.map(\.setting) == [1, 2, 2, 2])
    #expect(comparison.sections[1].cells.map(\.setting) == [1, 3, 3, 3])
    #expect(comparison.sections[2].cells.map(\.setting) == [0, 0, 0, 0])
    #expect(comparison.sections[3].cells.map(\.setting) == [0, 0, 0, 0])
    let random = try compare("random,random:seed=1", [cut])
    #expect(random.settings.count == 3)
  }

  @Test(arguments: ["", "pio,", "best", "none", "pio:x=1", "pio:positions", "pio:nms-threshold=9"])
  func refusesWhatNamesNoMethod(_ text: String) {
    #expect(throws: EvalError.self) { _ = try Variant.list(text, seed: 0) }
  }

  @Test func readsTheOptionsOfAMethod() throws {
    let options = "positions=compact:nms-threshold=0.8:coverage=0:entry=saliency:proxy-rows=last2"
    let pruning = try Variant.list("pio:\(options):proxy-block=current", seed: 0)[0].pruning
    #expect(pruning.positions == .compact && pruning.nmsThreshold == 0.8 && pruning.coverage == 0)
    #expect(pruning.entry == .saliency && pruning.proxyRows == .last2)
    #expect(pruning.proxyBlock == .current && pruning.scheduleRule == .measured)
    #expect(try Variant.list("published", seed: 0)[0].pruning == .published)
    let zip = try Variant.list("visionzip:patch-score=received", seed: 0)[0].pruning
    #expect(zip.method == .visionzip && zip.patchScore == .received)
    #expect(try Variant.list("random:seed=5", seed: 1)[0].pruning.seed == 5)
    #expect(try Variant.list("pio,all", seed: 0).map(\.name) == Variant.allNames)
  }
}
