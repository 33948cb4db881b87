import Testing

@testable import PIORuntime

struct ScheduleTests {
  @Test func givesThePublishedCountsForThirtyTwoLayers() throws {
    let published = [(64, "1:92,10:54,15:22"), (128, "1:218,10:128,15:54")]
    for (budget, text) in published {
      #expect(
        try Schedule(averaging: budget, of: 576, layerCount: 32)
          == Schedule(parsing: text, layerCount: 32))
      #expect(
        try Schedule(parsing: text, layerCount: 32).average(576, layerCount: 32) == Double(budget))
    }
  }

  @Test(arguments: [1, 16, 144, 576], ScheduleRule.allCases)
  func realisesEveryBudgetWithinOneRowAndMonotonically(_ tokenCount: Int, _ rule: ScheduleRule)
    throws
  {
    for layerCount in 2...80 {
      var previous = [Int](repeating: 0, count: layerCount)
      for budget in 1...(tokenCount + 1) {
        let schedule = try Schedule(
          averaging: budget, of: tokenCount, layerCount: layerCount, rule: rule)
        let rows = schedule.tokens(tokenCount, layerCount: layerCount)
        let sum = rows.reduce(0, +)
        let wanted = min(budget, tokenCount) * layerCount
        try #require(
          sum <= wanted && sum > wanted - layerCount, "\(layerCount) layers, \(budget): \(sum)")
        try #require(rows.allSatisfy { $0 >= 1 && $0 <= tokenCount })
        try #require(zip(rows, rows.dropFirst()).allSatisfy { $0 >= $1 })
        try #require(zip(rows, previous).allSatisfy { $0 >= $1 }, "\(layerCount) layers, \(budget)")
        #expect(throws: Never.self) { try Schedule(schedule.stages, layerCount: layerCount) }
        previous = rows
      }
    }
  }

  /// The demo's eight layers, and the first depth that follows the published proportions.
  @Test func givesShallowModelsThreeLevels() throws {
    for (budget, text) in [
      (32, "0:80,2:24,4:12"), (64, "0:160,2:48,4:24"), (128, "0:320,2:96,4:48"),
      (192, "0:480,2:144,4:72"), (256, "2:224,4:112"), (300, "2:312,4:156"),
    ] {
      #expect(
        try Schedule(averaging: budget, of: 576, layerCount: 8)
          == Schedule(parsing: text, layerCount: 8))
    }
    let published = try Schedule(averaging: 64, of: 576, layerCount: 16, rule: .published)
    #expect(try Schedule(averaging: 64, of: 576, layerCount: 16) == published)
    #expect(
      try Schedule(averaging: 64, of: 576, layerCount: 15)
        != Schedule(averaging: 64, of: 576, layerCount: 15, rule: .published))
  }

  @Test func aBudgetOfAllTokensOrMorePrunesNothing() throws {
    #expect(try Schedule(averaging: 576, of: 576, layerCount: 32) == .none)
    #expect(try Schedule(averaging: 9999, of: 576, layerCount: 32) == .none)
    #expect(throws: ScheduleError.budgetTooSmall(budget: 0, smallest: 1)) {
      try Schedule(averaging: 0, of: 576, layerCount: 32)
    }
  }

  @Test(arguments: [
    ("", ScheduleError.notAStage("")), ("1", .notAStage("1")), ("1:2:3", .notAStage("1:2:3")),
    ("1:a", .notAStage("1:a")), ("8:4", .layerOutOfRange(layer: 8, layerCount: 8)),
    ("-1:4", .layerOutOfRange(layer: -1, layerCount: 8)), ("1:0", .keepsNothing(afterLayer: 1)),
    ("2:9,2:8", .layersNotAscending(2, 2)), ("2:9,3:10", .countsNotFalling(9, 10)),
    ("99999999999999999999:1", .notAStage("99999999999999999999:1")),
  ])
  func refusesWhatIsNoSchedule(_ text: String, _ error: ScheduleError) {
    #expect(throws: error) { try Schedule(parsing: text, layerCount: 8) }
  }

  /// What the plan has room for where several images may exceed a budget together.
  @Test(arguments: PruneMethod.allCases)
  func noPromptHasMoreStagesThanItsMethod(_ method: PruneMethod) throws {
    var most = 0
    for layerCount in [1, 2, 3, 8, 15, 16, 24, 36] {
      for budget in [1, 2, 3, 40, 64, 65, 70, 80, 99, 100] {
        var pruning = Pruning()
        pruning.method = method
        pruning.budget = .average(budget)
        // Some methods have no schedule for every budget.
        guard let route = try? pruning.route(tokenCount: 100, layerCount: layerCount) else {
          continue
        }
        #expect(
          route.schedule.stages.count <= pruning.mostStages, "\(layerCount) layers, \(budget)")
        most = max(most, route.schedule.stages.count)
      }
    }
    #expect(most > 0 || [.none, .visionzip, .windowzip].contains(method))
  }

  @Test func countsWhatEachLayerSees() throws {
    let schedule = try Schedule(parsing: "0:300,2:64,3:9", layerCount: 5)
    #expect(schedule.tokens(576, layerCount: 5) == [300, 300, 64, 9, 9])
    #expect(schedule.tokens(100, layerCount: 5) == [100, 100, 64, 9, 9])
    #expect(Schedule.none.tokens(7, layerCount: 3) == [7, 7, 7])
  }
}
