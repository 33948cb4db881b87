import Foundation
import PIOConvert
import PIOFormat
import PIORuntime

let repository = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
  .deletingLastPathComponent().deletingLastPathComponent()

let tinyCheckpoints = [
  "gqa-linear-sharded", "llama3-no-projector-bias", "mha-biases", "one-kv-head-tied-full",
  "seven-heads-nested", "text-only", "tied-attention-bias-full", "yarn-padded",
]

/// Those that cut images into tiles; one has a window that slides over them.
let tiledCheckpoints = ["next-llama3", "next-mistral-window", "next-vicuna"]

/// Those with text between an image's tiles.
let smolCheckpoints = ["smol-plain-markers", "smol-shuffle-3", "smol-shuffle-4"]

/// Those that take an image at its own shape, at positions of three numbers.
let qwenCheckpoints = ["qwen2-flat", "qwen25-windows", "qwen3-deepstack"]

/// What `transformers` computes for one checkpoint: `Tests/Golden/README.md`.
struct Golden: Decodable {
  struct Values: Decodable {
    let offset: Int
    let shape: [Int]
    let rows: [Int]?
  }
  struct Turn: Decodable {
    let ids: [Int32]
    let logits: Values
    let prompt: String
  }
  struct Case: Decodable {
    let name: String
    let images: [String]
    let prompt: String
    let ids: [Int32]
    let features: Values?
    let deepstack: Values?
    let positions: [Int]
    let logits: Values
    let greedy: [Int32]
    let nextTurn: Turn?

    enum CodingKeys: String, CodingKey {
      case name, images, prompt, ids, features, deepstack, positions, logits, greedy
      case nextTurn = "next_turn"
    }

    var imagePaths: [String] { images.map { repository.appendingPathComponent($0).path } }
  }

  let checkpoint: String
  let cases: [Case]

  static func load(_ name: String) throws -> (Golden, [Float]) {
    let folder = repository.appendingPathComponent("Tests/Golden/checkpoints/\(name)")
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: folder.appendingPathComponent("golden.json")))
    let bytes = try Data(contentsOf: folder.appendingPathComponent("golden.bin"))
    let values = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
    return (golden, values)
  }
}

extension Golden.Values {
  /// Row `index` of the values, `(columns)`.
  func row(_ index: Int, of all: [Float]) -> ArraySlice<Float> {
    let start = offset + index * shape[1]
    return all[start..<(start + shape[1])]
  }
}

/// Converted files, made once a run and shared by the tests.
enum Files {
  private static let folder: URL = {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "pioedge-runtime-tests-\(getpid())")
    try! FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(at: Files.folder) }
    return folder
  }()
  /// Recursive: one file may be made from another.
  private static let lock = NSRecursiveLock()

  /// The checkpoint with its weights of one kind, the vision tower's of another.
  static func model(
    _ checkpoint: String, weights: TensorKind, vision: TensorKind
  ) throws -> String {
    let name = checkpoint.split(separator: "/").last!
    return try made("\(name)-\(weights)-\(vision).piom") { path in
      let rules = EncodingRules(weights: weights, visionWeights: vision)
      try convert(
        ConvertOptions(
          source: repository.appendingPathComponent(checkpoint).path, target: path, rules: rules))
    }
  }

  /// A file of the run's folder, which `make` writes where it is missing.
  static func made(_ name: String, _ make: (String) throws -> Void) throws -> String {
    lock.lock()
    defer { lock.unlock() }
    let path = folder.appendingPathComponent(name).path
    if !FileManager.default.fileExists(atPath: path) { try make(path) }
    return path
  }
}

func largestDifference(_ a: some Collection<Float>, _ b: some Collection<Float>) -> Float {
  guard a.count == b.count else { return .infinity }
  return zip(a, b).reduce(0) {
    $1.0.isFinite && $1.1.isFinite ? max($0, abs($1.0 - $1.1)) : .infinity
  }
}
