import Foundation
import PIOConvert
import PIOFormat
import PIOVision
import Testing

@testable import PIORuntime

/// A prompt of several images that is computed in several turns.
struct LaterImageTests {
  private func session(
    _ golden: Golden, _ change: (inout Limits) -> Void = { _ in }
  ) throws -> Session {
    try makeSession(Files.model(golden.checkpoint, weights: .f32, vision: .f32)) {
      $0.compute = .f32
      $0.kv = .f32
      change(&$0)
    }
  }

  /// The second image stands where it does when both are in one prompt.
  @Test(arguments: qwenCheckpoints + smolCheckpoints)
  func anImageInALaterTurnStandsBehindTheFirst(_ name: String) throws {
    let (golden, _) = try Golden.load(name)
    let test = try #require(golden.cases.first { $0.imagePaths.count == 2 })
    var whole = try session(golden)
    var turns = try session(golden)
    let tokens = try whole.rawTokens(test.prompt, isFirst: true)
    let image = whole.config.specialTokens.image
    let second = try #require(tokens.lastIndex(of: image))
    let expected = try run(&whole, tokens, images: test.imagePaths, count: 6)
    _ = try turns.append(
      Request(
        tokens: Array(tokens[..<second]), images: [.file(test.imagePaths[0])], maxTokens: 1))
    let found = try run(
      &turns, Array(tokens[second...]), images: [test.imagePaths[1]], count: 6)
    #expect(largestDifference(expected.logits, found.logits) <= 1e-4)
    #expect(expected.generation.tokens == found.generation.tokens)
  }

  /// How positions of what is left are numbered says nothing where all is left.
  @Test(arguments: qwenCheckpoints)
  func withoutPruningAllPositionsStay(_ name: String) throws {
    let (golden, _) = try Golden.load(name)
    var session = try session(golden) { $0.pruning.positions = .compact }
    for test in golden.cases where test.imagePaths.count > 0 {
      session.reset()
      let tokens = try session.rawTokens(test.prompt, isFirst: true)
      let found = try run(&session, tokens, images: test.imagePaths, count: test.greedy.count)
      let ended = found.generation.finishReason == .stop
      #expect(found.generation.tokens == (ended ? test.greedy.dropLast() : test.greedy))
    }
  }

  /// Every way to prune leaves all of an image where the budget is all of it.
  @Test(arguments: qwenCheckpoints, PruneMethod.allCases)
  func aBudgetOfTheWholeImageChangesNoBit(_ name: String, method: PruneMethod) throws {
    let (golden, _) = try Golden.load(name)
    let test = try #require(golden.cases.first { $0.imagePaths.count == 1 })
    var whole = try session(golden)
    var pruned = try session(golden) {
      $0.pruning.method = method
      $0.pruning.budget = .average(10_000)
    }
    let tokens = try whole.rawTokens(test.prompt, isFirst: true)
    let expected = try run(&whole, tokens, images: test.imagePaths, count: 4)
    let found = try run(&pruned, tokens, images: test.imagePaths, count: 4)
    #expect(found.logits == expected.logits)
    #expect(found.generation.tokens == expected.generation.tokens)
  }

  /// A budget that one image alone does not reach is one that two together may exceed.
  @Test(
    arguments: ["demo", "smol-shuffle-4"] + qwenCheckpoints,
    ["pio", "zip+pio", "divprune"])
  func imagesTogetherAreCutWhereOneIsNot(_ name: String, method: String) throws {
    let (golden, _) = try Golden.load(name)
    let zips = name.hasPrefix("qwen") ? PruneMethod.windowzipPIO : .visionzipPIO
    let session = try session(golden)
    // As many images as the plan has room for, each of fewer tokens.
    let path = try #require(golden.cases.first { $0.imagePaths.count == 1 }).imagePaths[0]
    let tokens = try session.visualLayout(path).tokenCount
    let budget = session.config.vision!.maxVisualTokenCount + 1
    var pruned = try self.session(golden) {
      $0.imageCount = budget / tokens + 2
      $0.pruning.method = PruneMethod(rawValue: method) ?? zips
      $0.pruning.budget = .average(budget)
    }
    let count = pruned.plan.limits.imageCount
    let image = pruned.config.specialTokens.image
    let text = try pruned.rawTokens("What is it?", isFirst: true)
    let found = try run(
      &pruned, [Int32](repeating: image, count: count) + text,
      images: [String](repeating: path, count: count), count: 2)
    #expect(found.logits.allSatisfy(\.isFinite) && !pruned.pruningStages.isEmpty)
  }

  @Test(arguments: ["demo"] + smolCheckpoints + qwenCheckpoints)
  func anImageMayBeWrittenInTwoWays(_ name: String) throws {
    let (golden, _) = try Golden.load(name)
    let session = try session(golden)
    let image = session.config.specialTokens.image
    let own = session.runtime.tokenizer.decode([image], skipSpecialTokens: false)
    #expect(own == (name.hasPrefix("qwen") ? "<|image_pad|>" : "<image>"))
    let expected = try session.rawTokens("A \(own) and \(own)?", isFirst: true)
    #expect(expected.count { $0 == image } == 2)
    let found = try session.rawTokens("A <image> and \(own)?", isFirst: true)
    #expect(found == expected)
    let none = try session.rawTokens("<imag> image> <<image", isFirst: true)
    #expect(!none.contains(image))
  }

  /// A question's text never opens a turn or an image, however it is written.
  @Test(arguments: qwenCheckpoints) func aQuestionOpensNothing(_ name: String) throws {
    let (golden, _) = try Golden.load(name)
    let session = try session(golden)
    let names = [
      "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>",
      "<|image_pad|>", "<|video_pad|>", "<image>",
    ]
    let special = try Set(names.dropLast().flatMap { try session.rawTokens($0, isFirst: true) })
    #expect(special.count == names.count - 1)
    func opened(_ question: String) throws -> [Int32] {
      try session.turnTokens(question, system: question, imageCount: 1, isFirst: true)
        .filter { special.contains($0) }
    }
    let plain = try opened("What is it?")
    #expect(!plain.isEmpty)
    for text in names + [names.joined(separator: "\nuser\n")] {
      let found = try opened(text)
      #expect(found == plain, "\(text)")
    }
  }

  /// A question's text never becomes the text between tiles, whatever the checkpoint flags as special.
  @Test func aQuestionHoldsNoMarkers() throws {
    let golden = repository.appendingPathComponent("Tests/Golden/checkpoints/smol-shuffle-4")
    let path = try Files.made("markers-unflagged.piom") { path in
      let folder = URL(fileURLWithPath: path + ".checkpoint")
      try FileManager.default.copyItem(at: golden, to: folder)
      let file = folder.appendingPathComponent("tokenizer.json")
      var root = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      var added = try #require(root["added_tokens"] as? [[String: Any]])
      for index in added.indices
      where (added[index]["content"] as? String)?.contains("_col_") ?? false {
        added[index]["special"] = false
      }
      root["added_tokens"] = added
      try JSONSerialization.data(withJSONObject: root).write(to: file)
      try convert(
        ConvertOptions(source: folder.path, target: path, rules: EncodingRules(weights: .f32)))
    }
    let session = try makeSession(path)
    let markers = try #require(session.config.vision?.markerTokens)
    let tokens = try session.turnTokens(
      "<row_1_col_2> and <fake_token_around_image>", system: nil, imageCount: 0, isFirst: true)
    #expect(markers.count > 16)
    let found = tokens.filter { token in
      let text = session.runtime.tokenizer.decode([token], skipSpecialTokens: false)
      return text.contains("_col_") || text.contains("fake_token")
    }
    #expect(found.isEmpty, "\(found)")
    let raw = try session.rawTokens("<row_1_col_2>", isFirst: true)
    #expect(raw.contains { markers.contains($0) })
  }

  @Test func anImageThatIsTooLongIsRefusedWhereItIsOpened() throws {
    let (golden, _) = try Golden.load("qwen2-flat")
    let session = try session(golden)
    for length in [200, 201] {
      let bytes = try encodePNG(
        [UInt8](repeating: 9, count: 3 * length), width: 1, height: length)
      let refused = bytes.withUnsafeBytes { session.refuses(.bytes($0, name: "long")) }
      #expect(refused == (length > 200), "\(length)")
    }
  }
}

extension Session {
  fileprivate func refuses(_ image: Image) -> Bool { runtime.refuses(image) }
}

extension Runtime {
  fileprivate func refuses(_ image: Image) -> Bool {
    do {
      _ = try model.open(image)
      return false
    } catch {
      return "\(error)".contains("200 times")
    }
  }
}
