import Testing

@testable import PIORuntime

/// Against `transformers`, f32 with eager attention, on files whose weights are f32.
struct GoldenModelTests {
  static let all =
    ["demo"] + tinyCheckpoints + tiledCheckpoints + smolCheckpoints
    + qwenCheckpoints

  private func session(_ golden: Golden) throws -> Session {
    let path = try Files.model(golden.checkpoint, weights: .f32, vision: .f32)
    return try makeSession(path) {
      $0.compute = .f32
      $0.kv = .f32
    }
  }

  @Test(arguments: all)
  func tokensAreThoseOfTheProcessor(_ name: String) throws {
    let (golden, _) = try Golden.load(name)
    let session = try session(golden)
    let image = session.config.specialTokens.image
    for test in golden.cases {
      var expanded: [Int32] = []
      var images = try test.imagePaths.map { try session.visualLayout($0) }[...]
      for token in try session.rawTokens(test.prompt, isFirst: true) {
        guard token == image, session.config.vision != nil else {
          expanded.append(token)
          continue
        }
        images.removeFirst().forEachRow { row in
          if case .text(let text) = row { expanded.append(text) } else { expanded.append(image) }
        }
      }
      #expect(expanded == test.ids, "\(test.name)")
    }
  }

  @Test(arguments: all)
  func visionFeaturesAreWithinAThousandth(_ name: String) throws {
    let (golden, values) = try Golden.load(name)
    var session = try session(golden)
    for test in golden.cases {
      guard let expected = test.features, let rows = expected.rows else { continue }
      let dim = expected.shape[1]
      var features: [Float] = []
      for path in test.imagePaths {
        let rows = try session.imageFeatures(path)
        var row = 0
        try session.visualLayout(path).forEachRow { kind in
          if case .text = kind {} else { features += rows[(row * dim)..<((row + 1) * dim)] }
          row += 1
        }
      }
      for (index, row) in rows.enumerated() {
        let found = features[(row * dim)..<((row + 1) * dim)]
        let difference = largestDifference(found, expected.row(index, of: values))
        #expect(difference <= 1e-3, "\(test.name) row \(row): \(difference)")
      }
    }
  }

  @Test(arguments: ["qwen3-deepstack"])
  func whatIsAddedBehindTheFirstLayersIsWithinAThousandth(_ name: String) throws {
    let (golden, values) = try Golden.load(name)
    var session = try session(golden)
    let levels = try #require(session.config.vision?.deepstackCount)
    for test in golden.cases {
      guard let expected = test.deepstack, let rows = test.features?.rows else { continue }
      let dim = expected.shape[1]
      #expect(expected.shape[0] == levels * rows.count)
      let images = try test.imagePaths.map { try session.deepstack($0) }
      for level in 0..<levels {
        let level = (all: level, features: images.flatMap { $0[level] })
        for (index, row) in rows.enumerated() {
          let found = level.features[(row * dim)..<((row + 1) * dim)]
          let difference = largestDifference(
            found, expected.row(level.all * rows.count + index, of: values))
          #expect(difference <= 1e-3, "\(test.name) level \(level.all) row \(row): \(difference)")
        }
      }
    }
  }

  @Test(arguments: all)
  func logitsAndGreedyTokensAreThoseOfTransformers(_ name: String) throws {
    let (golden, values) = try Golden.load(name)
    var session = try session(golden)
    for test in golden.cases {
      session.reset()
      let tokens = try session.rawTokens(test.prompt, isFirst: true)
      let (logits, generation) = try run(
        &session, tokens, images: test.imagePaths, count: test.greedy.count)
      let last = test.logits.row(test.positions.count - 1, of: values)
      #expect(largestDifference(logits, last) <= 1e-3, "\(test.name)")
      let ended = generation.finishReason == .stop
      #expect(generation.tokens == (ended ? test.greedy.dropLast() : test.greedy), "\(test.name)")
      guard let turn = test.nextTurn else { continue }
      let (next, _) = try run(&session, (ended ? [test.greedy.last!] : []) + turn.ids)
      #expect(
        largestDifference(next, turn.logits.row(0, of: values)) <= 1e-3, "\(test.name), next turn")
    }
  }

  @Test(arguments: all)
  func logitsInTheMiddleOfAPromptAgree(_ name: String) throws {
    let (golden, values) = try Golden.load(name)
    var session = try session(golden)
    let image = session.config.specialTokens.image
    for test in golden.cases {
      for (index, position) in test.positions.enumerated().dropLast() {
        let prefix = Array(test.ids[...position])
        guard !prefix.contains(image) || image < 0 else { continue }
        session.reset()
        let (logits, _) = try run(&session, prefix)
        #expect(
          largestDifference(logits, test.logits.row(index, of: values)) <= 1e-3,
          "\(test.name) at \(position)")
      }
    }
  }
}
