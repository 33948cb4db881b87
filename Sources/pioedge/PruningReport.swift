import PIORuntime

/// One stage and image in `run --json`'s `pruning`: these names are a contract.
struct StageReport: Encodable {
  struct Merge: Encodable {
    let target: Int
    let sources: [Int]
  }

  let stage: String
  @Nullable var afterLayer: Int?
  let image: Int
  let before: Int
  let after: Int
  let kept: [Int]
  let merged: [Merge]
  /// The encoder's class token is left too, and is none of the image's tokens.
  let classToken: Bool
  let milliseconds: Double

  init(_ stage: PruningStage) {
    self.stage = stage.place.rawValue
    afterLayer = stage.afterLayer
    image = stage.image
    before = stage.before
    after = stage.after
    kept = stage.kept
    merged = stage.merged.map { Merge(target: $0.target, sources: $0.sources) }
    classToken = stage.keepsClassToken
    milliseconds = (stage.milliseconds * 100).rounded() / 100
  }
}

/// What `--dump-saliency` writes of one stage and image.
struct SaliencyReport: Encodable {
  let stage: StageReport
  /// The image's own tokens in front of the stage; -1: the encoder's class token.
  let candidates: [Int]
  /// What each of them was ranked by; empty where the method has no such number.
  let scores: [Float]

  init(_ stage: PruningStage) {
    self.stage = StageReport(stage)
    candidates = stage.candidates
    // JSON has no word for what is not a number.
    scores = stage.scores.map { $0.isFinite ? $0 : 0 }
  }

  private enum CodingKeys: String, CodingKey { case candidates, scores }

  /// The stage's keys, and these beside them.
  func encode(to encoder: any Encoder) throws {
    try stage.encode(to: encoder)
    var container = encoder.container(keyedBy: CodingKeys.self)
    try container.encode(candidates, forKey: .candidates)
    try container.encode(scores, forKey: .scores)
  }
}

/// The words to an explanation's drawing.
struct ExplanationReport: Encodable {
  struct Panels: Encodable {
    let image: String
    let stages: [StageReport]
  }

  let drawing: String
  let method: String
  let legend = [
    "A row for each image: the image as the encoder sees it, then two panels for each stage.",
    "Heat: rank among the tokens in front of the stage, dark blue lowest, yellow highest; black: gone before.",
    "Kept: patches with an orange frame stay; with a blue one they stand for others too; dark ones are dropped.",
    "Digits: image, L and the layer in front of the stage (0: the encoder, or before the first layer); tokens before > after.",
  ]
  let images: [Panels]

  init(drawing: String, method: String, images: [String], stages: [PruningStage]) {
    self.drawing = drawing
    self.method = method
    self.images = images.enumerated().map { index, path in
      Panels(image: path, stages: stages.filter { $0.image == index }.map(StageReport.init))
    }
  }
}
