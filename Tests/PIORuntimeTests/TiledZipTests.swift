import Foundation
import PIOFormat
import Testing

@testable import PIORuntime

/// VisionZip of images in tiles, against a computation on the tower of transformers
/// (tools/golden/make_zip_golden.py).
struct TiledZipTests {
  struct Case: Decodable, Sendable, CustomTestStringConvertible {
    let checkpoint: String
    let image: String
    let count: Int
    let score: String
    let tokens: [Int]
    let features: Golden.Values

    var testDescription: String { "\(image.split(separator: "/").suffix(2)), \(count), \(score)" }
  }

  static let folder = repository.appendingPathComponent("Tests/Golden/pruning")
  static let cases: [Case] = {
    let data = try! Data(contentsOf: folder.appendingPathComponent("tiles.json"))
    return try! JSONDecoder().decode([Case].self, from: data)
  }()
  static let values: [Float] = {
    let data = try! Data(contentsOf: folder.appendingPathComponent("tiles.bin"))
    return data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
  }()

  @Test(arguments: cases)
  func rowsAreThoseOfTheReference(_ test: Case) throws {
    let path = try Files.model(test.checkpoint, weights: .f32, vision: .f32)
    var session = try makeSession(path) {
      $0.compute = .f32
      $0.kv = .f32
      $0.pruning.method = .visionzip
      $0.pruning.budget = .average(test.count)
      $0.pruning.patchScore = PatchScore(rawValue: test.score)!
    }
    let image = repository.appendingPathComponent(test.image).path
    let found = try session.imageFeatures(image, tokenCount: test.count)
    let dim = test.features.shape[1]
    try #require(found.count == test.tokens.count * dim)
    let stage = try #require(session.pruningStages.first)
    #expect(stage.after == test.count && stage.kept == test.tokens.filter { $0 >= 0 })
    for row in 0..<test.tokens.count {
      let difference = largestDifference(
        found[(row * dim)..<((row + 1) * dim)], test.features.row(row, of: Self.values))
      #expect(difference <= 1e-3, "row \(row), token \(test.tokens[row])")
    }
  }
}
