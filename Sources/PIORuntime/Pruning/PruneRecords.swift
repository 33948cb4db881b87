/// What a stage did to one image.
public struct PruningStage: Equatable, Sendable {
  public enum Place: String, Sendable {
    case encoder, lm
  }
  /// A token that stands for others too.
  public struct Merge: Equatable, Sendable {
    public let target: Int
    public let sources: [Int]
  }

  public var place: Place
  /// Layers in front of the stage; nil in the encoder.
  public var afterLayer: Int?
  /// From 0, in the prompt's order.
  public var image: Int
  public var before: Int
  public var after: Int
  /// The image's own visual tokens that are left, ascending.
  public var kept: [Int]
  /// The encoder's class token, none of the image's own tokens, is left too.
  public var keepsClassToken: Bool
  public var merged: [Merge]
  /// Of the whole stage, all images together.
  public var milliseconds: Double
  /// Multiply-adds of the whole stage.
  public var macs: Int
  /// What the stage ranked by, for each of the `before` tokens; empty where it ranks by no number.
  public var scores: [Float]
  /// The tokens that `scores` speaks of, in the order of the decoder's rows; -1: the class token.
  public var candidates: [Int]
}

/// What the stages of a turn took.
public struct PruningCost: Equatable, Sendable {
  /// Of the images' encoding.
  public var encodeMilliseconds = 0.0
  /// Of prefill.
  public var prefillMilliseconds = 0.0
  /// Multiply-adds of the stages in the decoder.
  public var prefillMACs = 0
}

/// Room for what the stages of one prompt did.
struct RecordRegions: Equatable, Sendable {
  let records: Region<PruneRecords.Record>
  let count: Region<Int32>
  let candidates: Region<Int32>
  let scores: Region<Float>
  let kept: Region<Int32>
  /// Which token of its image stands for each token that the encoder dropped.
  let targets: Region<Int32>

  init(_ layout: inout Layout, stageCount: Int, imageCount: Int, visualRows: Int) {
    records = layout.reserve(stageCount * imageCount)
    count = layout.reserve(1)
    candidates = layout.reserve(stageCount * visualRows)
    scores = layout.reserve(stageCount * visualRows)
    kept = layout.reserve(stageCount * visualRows)
    targets = layout.reserve(visualRows)
  }
}

/// What the stages of the prompt in work did, kept in the arena; made into values when somebody asks.
struct PruneRecords {
  struct Record: BitwiseCopyable {
    static let encoder: Int32 = -1
    var afterLayer: Int32
    var image: Int32
    var before: Int32
    var after: Int32
    /// Where this image's candidates, scores and kept tokens begin.
    var offset: Int32
    var hasScores: Bool
    var milliseconds: Double
    var macs: Int
  }

  private let records: UnsafeMutableBufferPointer<Record>
  private let count: UnsafeMutablePointer<Int32>
  private let candidates: UnsafeMutableBufferPointer<Int32>
  private let scores: UnsafeMutableBufferPointer<Float>
  private let kept: UnsafeMutableBufferPointer<Int32>
  private let targets: UnsafeMutableBufferPointer<Int32>

  init(_ regions: RecordRegions, arena: borrowing Arena) {
    records = arena.buffer(regions.records)
    count = arena.pointer(regions.count)
    candidates = arena.buffer(regions.candidates)
    scores = arena.buffer(regions.scores)
    kept = arena.buffer(regions.kept)
    targets = arena.buffer(regions.targets)
  }

  func removeAll() { count.pointee = 0 }

  /// Notes the image's tokens in front of the stage, and what they are ranked by.
  func begin(image: Int, afterLayer: Int, _ span: Range<Int>, _ visual: VisualRows) {
    let offset = append(
      image: image, afterLayer: Int32(afterLayer), tokenCount: visual.tokenCount(span),
      hasScores: false)
    var place = offset
    for origin in visual.origins[span] where VisualRows.isToken(origin) {
      candidates[place] = origin
      place += 1
    }
  }

  /// A record of `tokenCount` tokens. Returns where they begin.
  private func append(image: Int, afterLayer: Int32, tokenCount: Int, hasScores: Bool) -> Int {
    let index = Int(count.pointee)
    let offset = index == 0 ? 0 : Int(records[index - 1].offset + records[index - 1].before)
    precondition(index < records.count && offset + tokenCount <= candidates.count, "records")
    records[index] = Record(
      afterLayer: afterLayer, image: Int32(image), before: Int32(tokenCount), after: 0,
      offset: Int32(offset), hasScores: hasScores, milliseconds: 0, macs: 0)
    count.pointee += 1
    return offset
  }

  /// `values`: one for each row of the prompt.
  func note(
    scores values: UnsafeMutableBufferPointer<Float>, _ span: Range<Int>, _ visual: VisualRows
  ) {
    let index = Int(count.pointee) - 1
    records[index].hasScores = true
    var place = Int(records[index].offset)
    for row in span where VisualRows.isToken(visual.origins[row]) {
      scores[place] = values[row]
      place += 1
    }
  }

  func note(kept rows: Slice<UnsafeMutableBufferPointer<Int32>>, _ visual: VisualRows) {
    let index = Int(count.pointee) - 1
    let first = Int(records[index].offset)
    var place = first
    for row in rows where VisualRows.isToken(visual.origins[Int(row)]) {
      kept[place] = visual.origins[Int(row)]
      place += 1
    }
    records[index].after = Int32(place - first)
  }

  /// The encoder will drop some of an image's `tokenCount` tokens. Its records come first, so that their offsets are
  /// those of the images.
  func beginEncoding(image: Int, tokenCount: Int) {
    let offset = append(
      image: image, afterLayer: Record.encoder, tokenCount: tokenCount, hasScores: true)
    for token in 0..<tokenCount {
      candidates[offset + token] = Int32(token)
      scores[offset + token] = 0
      targets[offset + token] = Int32(token)
    }
  }

  /// What became of one tile of the image begun last; `place` says which tokens its patches are.
  func note(_ zip: VisionZip, _ place: TilePlace) {
    let offset = Int(records[Int(count.pointee) - 1].offset)
    for patch in 0..<zip.tokenCount {
      guard let token = place.token(of: patch) else { continue }
      scores[offset + token] = zip.scores[patch]
      targets[offset + token] = Int32(place.token(of: Int(zip.targets[patch])) ?? token)
    }
  }

  /// What became of the image begun last, which was reduced as one.
  func note(_ zip: GridZip, tokenCount: Int) {
    let offset = Int(records[Int(count.pointee) - 1].offset)
    for token in 0..<tokenCount {
      scores[offset + token] = zip.scores[token]
      targets[offset + token] = zip.targets[token]
    }
  }

  /// What is left of the image begun last.
  func endEncoding(origins: Slice<UnsafeMutableBufferPointer<Int32>>, milliseconds: Double) {
    let index = Int(count.pointee) - 1
    var place = Int(records[index].offset)
    for origin in origins where VisualRows.isToken(origin) {
      kept[place] = origin
      place += 1
    }
    records[index].after = Int32(place) - records[index].offset
    records[index].milliseconds = milliseconds
  }

  /// What the last `imageCount` records, one stage, took.
  func finish(imageCount: Int, milliseconds: Double, macs: Int) {
    let end = Int(count.pointee)
    for index in (end - imageCount)..<end {
      records[index].milliseconds = milliseconds
      records[index].macs = macs
    }
  }

  /// Of all stages; a stage of the decoder notes what it took with each image.
  var cost: PruningCost {
    var sum = PruningCost()
    for record in records[0..<Int(count.pointee)] {
      if record.afterLayer == Record.encoder {
        sum.encodeMilliseconds += record.milliseconds
      } else if record.image == 0 {
        sum.prefillMilliseconds += record.milliseconds
        sum.prefillMACs += record.macs
      }
    }
    return sum
  }

  /// All stages of the last prompt with images.
  var stages: [PruningStage] {
    (0..<Int(count.pointee)).map { stage(records[$0]) }
  }

  private func stage(_ record: Record) -> PruningStage {
    let start = Int(record.offset)
    let all = start..<(start + Int(record.before))
    let isEncoder = record.afterLayer == Record.encoder
    let left = kept[start..<(start + Int(record.after))].map { Int($0) }.sorted()
    var merged: [PruningStage.Merge] = []
    if isEncoder {
      for target in left where target >= 0 {
        let sources = (0..<all.count).filter {
          $0 != target && Int(targets[start + $0]) == target
        }
        if !sources.isEmpty { merged.append(.init(target: target, sources: sources)) }
      }
    }
    return PruningStage(
      place: isEncoder ? .encoder : .lm, afterLayer: isEncoder ? nil : Int(record.afterLayer),
      image: Int(record.image), before: Int(record.before), after: Int(record.after),
      kept: left.filter { $0 >= 0 }, keepsClassToken: left.contains(-1), merged: merged,
      milliseconds: record.milliseconds, macs: record.macs,
      scores: record.hasScores ? Array(scores[all]) : [],
      candidates: candidates[all].map { Int($0) })
  }
}
