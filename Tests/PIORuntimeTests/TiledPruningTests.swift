import PIOBase
import Foundation
import PIOFormat
import PIOVision
import Testing

@testable import PIORuntime

/// Pruning of images in tiles: all their tokens together, ends of lines not counted. That the cuts are those of
/// the reference is `PruningTests`' to say.
struct TiledPruningTests {
  // Not in the attribute: Swift 6.0.3 stops on a closure there.
  private static let betweenLayers = PruneMethod.allCases.filter { $0 != .none && !$0.zips }

  private func session(
    _ name: String = "next-vicuna", _ change: (inout Limits) -> Void = { _ in }
  ) throws -> Session {
    let path = try Files.model(
      "Tests/Golden/checkpoints/\(name)", weights: .int8, vision: .int8)
    return try makeSession(path, change)
  }

  private func image(_ shape: String, _ name: String = "next-vicuna") -> String {
    repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)/\(shape).png").path
  }

  private let prompt = "USER: <image>\nWhat color is the star? ASSISTANT:"

  @Test func everyImageIsAmongTheShapesThatThePlanKnows() throws {
    var next = LLaVANextConfig()
    (next.tower.imageSize, next.tower.patchSize) = (336, 14)
    next.resolutions = [(336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008)].map {
      PixelSize(height: $0.0, width: $0.1)
    }
    let vision = VisionConfig.llavaNext(next)
    let shapes = vision.layouts
    #expect(shapes.map(\.rowCount).max() == vision.maxRowCount)
    #expect(vision.maxVisualTokenCount == 2880 && vision.maxRowCount == 2928)
    let lines = Dictionary(uniqueKeysWithValues: shapes.map { ($0.tokenCount, $0.lineEndCount) })
    var random = SplitMix64(state: 3)
    for _ in 0..<20_000 {
      let (width, height) = (1 + Int(random.next() % 3000), 1 + Int(random.next() % 3000))
      let found = vision.layout(PixelSize(height: height, width: width))
      #expect(found.rowCount <= vision.maxRowCount)
      let most = try #require(lines[found.tokenCount], "\(width) x \(height)")
      #expect(found.lineEndCount <= most)
    }
  }

  /// Whatever the image, the method and the budget: as many tokens as the schedule says, and room for all rows. What
  /// cannot be reached is refused: by the plan for the largest image, else by the image's own turn.
  @Test(arguments: betweenLayers, [6, 20, 45])
  func aLayerHasItsTokensAndTheEndsOfTheirLines(_ method: PruneMethod, budget: Int) throws {
    var pruning = Pruning()
    pruning.method = method
    pruning.budget = .average(budget)
    let config = try self.session("next-mistral-window").config
    let (layerCount, vision) = (config.text.layerCount, try #require(config.vision))
    guard isReached(pruning, vision.maxVisualTokenCount, layerCount) else {
      // Two of three layers see every token before these cut.
      #expect(method.publishedLayer == 2)
      #expect(budget * layerCount < 2 * vision.maxVisualTokenCount + 1)
      #expect(throws: RuntimeError.self) {
        _ = try self.session("next-mistral-window") { $0.pruning = pruning }
      }
      return
    }
    var session = try self.session("next-mistral-window") { $0.pruning = pruning }
    let tokens = try session.rawTokens(prompt, isFirst: true)
    for shape in ["square", "wide", "tall", "flat"] {
      session.reset()
      let rows = try imageRows(session, shape)
      let images = [image(shape, "next-mistral-window")]
      try #require(isReached(pruning, rows.tokenCount, layerCount), "a smaller image needs less")
      let (_, generation) = try run(&session, tokens, images: images, count: 3)
      #expect(generation.prefill.visualTokens == rows.tokenCount)
      #expect(generation.prefill.rows == tokens.count - 1 + rows.rowCount)
      try checkStages(session, rows)
      // The prompt but for the image, and the answer's tokens that were run: the last one of a cut-off answer was not.
      let answered = generation.tokens.count - (generation.finishReason == .length ? 1 : 0)
      #expect(session.cachedRows.last! == tokens.count - 1 + answered + lastRows(session, rows))
    }
  }

  private func isReached(_ pruning: Pruning, _ tokenCount: Int, _ layerCount: Int) -> Bool {
    (try? pruning.schedule(tokenCount: tokenCount, layerCount: layerCount)) != nil
  }

  private func checkStages(_ session: borrowing Session, _ rows: VisualLayout) throws {
    let schedule = try session.plan.limits.pruning.schedule(
      tokenCount: rows.tokenCount, layerCount: session.config.text.layerCount)
    for stage in session.pruningStages {
      let keep = try #require(schedule.stages.first { $0.afterLayer == stage.afterLayer }).keep
      #expect(stage.after == min(stage.before, keep))
      #expect(stage.kept.count == stage.after && stage.kept == stage.kept.sorted())
      #expect(stage.kept.allSatisfy { (0..<rows.tokenCount).contains($0) })
      #expect(stage.candidates.count == stage.before)
    }
  }

  /// Rows of the image in the last layer: its tokens, and an end for each line that has one.
  private func lastRows(_ session: borrowing Session, _ rows: VisualLayout) -> Int {
    guard let last = session.pruningStages.last else { return rows.rowCount }
    return last.after + lines(of: last.kept, in: rows).count
  }

  private func imageRows(_ session: borrowing Session, _ shape: String) throws -> VisualLayout {
    let vision = try #require(session.config.vision)
    let info = try OpenImage(path: image(shape, "next-mistral-window")).info
    return vision.layout(PixelSize(height: info.height, width: info.width))
  }

  /// The lines with an end that have one of the tokens.
  private func lines(of tokens: [Int], in layout: VisualLayout) -> Set<Int> {
    Set(
      tokens.filter { layout.endsLine(of: $0) }.map { layout.lineEnd(behind: layout.row(of: $0))! })
  }

  @Test func theEncodersBuffersDoNotGrowWithTheTiles() throws {
    func regions(_ grids: [(Int, Int)]) throws -> (LLaVANextRegions, Int) {
      let model = ModelShapes.llava7B
      var config = model.config
      config.vision = .llavaNext(
        ModelShapes.tiled(
          grids.map { PixelSize(height: 336 * $0.0, width: 336 * $0.1) },
          outputDim: config.text.dim))
      let encodings = tensorSpecs(for: config).map { spec in
        spec.role == .small ? TensorEncoding.f32 : model.tensors.last!.encoding
      }
      let layout = try ModelLayout(
        config: config, encodings: encodings, tokenizerByteCount: 0,
        provenance: Provenance(converter: "test", recipe: "int4", sources: []))
      let plan = try ArenaLayout(config, layout.tensors, limits: Limits(), maxPieceBytes: 48)
      guard case .llavaNext(let regions) = plan.vision else {
        throw RuntimeError.modelTakesNoImages
      }
      return (regions, plan.promptRows)
    }
    let (one, oneRows) = try regions([(1, 1)])
    let (five, fiveRows) = try regions([(2, 2)])
    func counts(_ tower: TowerRegions) -> [Int] {
      [
        tower.hidden.count, tower.query.count, tower.keyValue.count, tower.inner.count,
        tower.patches.count,
      ]
    }
    #expect(counts(five.tower) == counts(one.tower))
    // Of a tile only its pixels wait, as bytes; its rows are what the decoder gets.
    #expect(five.tiles.count - one.tiles.count == 3 * 3 * 336 * 336)
    #expect(fiveRows - oneRows == 48 * 49 - 24 * 25)
  }

  @Test func tilesHaveAShapeOfTheirOwn() throws {
    #expect(throws: RuntimeError.fitOfTiles) {
      let path = try Files.model(
        "Tests/Golden/checkpoints/next-vicuna", weights: .int8, vision: .int8)
      _ = try Runtime(try ModelFile(path: path), limits: Limits(), fit: .crop)
    }
  }

  /// Each tile hands over its share: as many rows as the budget says, in the image's order, each line that has one
  /// with its end; no patch of padding.
  @Test(arguments: [PatchScore.cls, .received], [3, 10, 41])
  func everyTileIsReducedAloneAndPutInItsPlace(_ score: PatchScore, budget: Int) throws {
    let name = "next-mistral-window"
    for method in [PruneMethod.visionzip, .visionzipPIO] {
      for positions in [PrunedPositions.original, .compact] {
        var session = try session(name) {
          $0.pruning.method = method
          $0.pruning.budget = .average(budget)
          $0.pruning.patchScore = score
          $0.pruning.positions = positions
        }
        for shape in ["square", "wide", "tall", "flat"] {
          session.reset()
          let tokens = try session.rawTokens(prompt, isFirst: true)
          let (logits, generation) = try run(
            &session, tokens, images: [image(shape, name)], count: 2)
          let isFinite = logits.allSatisfy { $0.isFinite }
          #expect(isFinite)
          let rows = try imageRows(session, shape)
          guard let stage = session.pruningStages.first, stage.place == .encoder else { continue }
          #expect(stage.before == rows.tokenCount && stage.after == generation.prefill.visualTokens)
          #expect(method != .visionzip || stage.after == budget)
          #expect(stage.kept == stage.kept.sorted() && Set(stage.kept).count == stage.kept.count)
          #expect(stage.kept.allSatisfy { $0 < rows.tokenCount })
          #expect(stage.keepsClassToken == (score == .cls))
          let lines = lines(of: stage.kept, in: rows)
          let all = tokens.count - 1 + stage.after + lines.count
          #expect(generation.prefill.rows == all, "\(method), \(shape)")
        }
      }
    }
  }

  /// 320 rows of five tiles are 64 each; a tile that has fewer leaves its part to the others.
  @Test func sharesAreEqualWhereTilesHaveEnough() {
    func shares(_ count: Int, _ sizes: [Int]) -> [Int] {
      var shares = TileShares(count, tileCount: sizes.count) { sizes[$0] }
      return sizes.map { shares.next($0) }
    }
    #expect(shares(320, [576, 576, 576, 576, 576]) == [64, 64, 64, 64, 64])
    #expect(shares(7, [10, 10, 10]) == [3, 2, 2])
    #expect(shares(20, [10, 3, 0, 10]) == [9, 3, 0, 8])
    #expect(shares(23, [10, 3, 0, 10]) == [10, 3, 0, 10])
    #expect(shares(1, [5, 5]) == [1, 0])
  }

  @Test(arguments: tiledCheckpoints)
  func theThreadCountChangesNoBitOfTilesAndWindows(_ name: String) throws {
    var one = try session(name) {
      $0.threadCount = 1
      $0.pruning.budget = .fraction(0.4)
    }
    var three = try session(name) {
      $0.threadCount = 3
      $0.pruning.budget = .fraction(0.4)
    }
    let tokens = try one.rawTokens(prompt, isFirst: true)
    let images = [image("square", name)]
    let a = try run(&one, tokens, images: images, count: 12)
    let b = try run(&three, tokens, images: images, count: 12)
    #expect(a.logits == b.logits && a.generation.tokens == b.generation.tokens)
    let whole = try one.visualRowCount(images[0]) + tokens.count - 1
    #expect(one.cachedRows.last! < whole + 12 - 20)
  }

  /// The window counts positions, whichever rows are left: a turn at a time as in one prompt.
  @Test(arguments: [PrunedPositions.original, .compact])
  func aWindowSlidesOverTurnsAsOverAPrompt(_ positions: PrunedPositions) throws {
    let name = "next-mistral-window"
    func made() throws -> Session {
      try session(name) {
        $0.compute = .f32
        $0.kv = .f32
        $0.pruning.method = .uniform
        $0.pruning.budget = .average(40)
        $0.pruning.positions = positions
      }
    }
    var whole = try made()
    var turns = try made()
    let tokens = try whole.rawTokens(prompt, isFirst: true)
    let images = [image("square", name)]
    let expected = try run(&whole, tokens, images: images)
    _ = try turns.append(
      Request(tokens: Array(tokens.dropLast(4)), images: images.map { .file($0) }, maxTokens: 1))
    let found = try run(&turns, Array(tokens.suffix(4)))
    #expect(largestDifference(expected.logits, found.logits) <= 1e-4)
  }
}
