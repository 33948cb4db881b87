/// The vocabulary in the form of a `tokenizer.json`.
extension GGUFVocabulary {
  func tokenizerJSON() throws(TokenizerConvertError) -> PieceJSON {
    let json: PieceJSON = [
      "model": isByteLevel ? try byteLevelModel() : sentencePieceModel(),
      "added_tokens": .array(addedTokens),
      "normalizer": isByteLevel ? preTokenizer.normalizer : normalizer,
      "pre_tokenizer": isByteLevel ? preTokenizer.json : .null,
      "post_processor": postProcessor,
      "decoder": isByteLevel ? ["type": "ByteLevel"] : byteFallbackDecoder,
    ]
    return json
  }

  // MARK: Model

  private func byteLevelModel() throws(TokenizerConvertError) -> PieceJSON {
    guard let merges = mergeTexts() else {
      throw .invalid(file: file.name, problem: "tokenizer.ggml.merges is missing")
    }
    return [
      "type": "BPE", "vocab": vocabulary, "merges": .array(merges.map { .string(Array($0)) }),
      "ignore_merges": .bool(preTokenizer.ignoresMerges),
    ]
  }

  private func sentencePieceModel() -> PieceJSON {
    [
      "type": "BPE", "vocab": vocabulary, "merges": .array(mergesOfScores()),
      "byte_fallback": true, "fuse_unk": true,
      "unk_token": unknown.map { .string(pieces[Int($0)]) } ?? .null,
    ]
  }

  /// Of byte-level pieces those that are found by merging: the others are found in the text itself.
  private var vocabulary: PieceJSON {
    let kept: Set<Kind> =
      isByteLevel ? [.normal, .byte] : [.normal, .byte, .unknown, .control, .userDefined]
    return .object(
      pieces.indices.filter { kept.contains(kinds[$0]) }.map {
        (key: pieces[$0], value: .number(Double($0)))
      })
  }

  private var addedTokens: [PieceJSON] {
    pieces.indices.compactMap { id in
      guard [.control, .userDefined, .unknown].contains(kinds[id]) else { return nil }
      return [
        "id": .number(Double(id)), "content": .string(pieces[id]),
        "special": .bool(kinds[id] != .userDefined), "normalized": false,
      ]
    }
  }

  // MARK: Merges

  private struct Merge {
    let left: ArraySlice<UInt8>
    let right: ArraySlice<UInt8>
    let score: Double
    /// Characters of the halves.
    let counts: (Int, Int)
  }

  /// The merges that make the same pieces as SentencePiece's scores: every way to make a piece of
  /// two others, best piece first, then by the lengths of the halves, as `transformers` orders them.
  private func mergesOfScores() -> [PieceJSON] {
    var ids: [ArraySlice<UInt8>: Int] = [:]
    for (id, piece) in pieces.enumerated() where kinds[id] != .unused { ids[piece[...]] = id }
    var merges: [Merge] = []
    for (id, piece) in pieces.enumerated() where kinds[id] == .normal {
      merges += self.merges(into: piece, score: scores.isEmpty ? 0 : scores[id], ids)
    }
    // Stable, as the order of the pieces decides what is left.
    let sorted = merges.enumerated().sorted { a, b in
      let (x, y) = (a.element, b.element)
      if x.score != y.score { return x.score > y.score }
      return x.counts != y.counts ? x.counts > y.counts : a.offset < b.offset
    }
    return sorted.map {
      .array([.string(Array($0.element.left)), .string(Array($0.element.right))])
    }
  }

  /// The ways to make `piece` of two others, by the ids of the halves.
  private func merges(
    into piece: [UInt8], score: Double, _ ids: [ArraySlice<UInt8>: Int]
  ) -> [Merge] {
    // Where characters begin: no half may cut one.
    let starts = piece.indices.filter { piece[$0] & 0xC0 != 0x80 }
    var found: [(halves: (Int, Int), merge: Merge)] = []
    for (count, start) in starts.enumerated().dropFirst() {
      let (left, right) = (piece[..<start], piece[start...])
      guard let leftID = ids[left], let rightID = ids[right] else { continue }
      let counts = (count, starts.count - count)
      found.append(
        ((leftID, rightID), Merge(left: left, right: right, score: score, counts: counts)))
    }
    return found.sorted { $0.halves < $1.halves }.map(\.merge)
  }

  // MARK: Around the model

  private var normalizer: PieceJSON {
    let mark = PieceJSON.string(spaceMarkBytes)
    let replace: PieceJSON = ["type": "Replace", "pattern": ["String": " "], "content": mark]
    let prepend: [PieceJSON] = addsSpace ? [["type": "Prepend", "prepend": mark]] : []
    return ["type": "Sequence", "normalizers": .array(prepend + [replace])]
  }

  private var byteFallbackDecoder: PieceJSON {
    let mark = PieceJSON.string(spaceMarkBytes)
    var parts: [PieceJSON] = [
      ["type": "Replace", "pattern": ["String": mark], "content": " "],
      ["type": "ByteFallback"],
      ["type": "Fuse"],
    ]
    if addsSpace { parts.append(["type": "Strip", "content": " ", "start": 1, "stop": 0]) }
    return ["type": "Sequence", "decoders": .array(parts)]
  }

  private var postProcessor: PieceJSON {
    var single: [PieceJSON] = [["Sequence": ["id": "A"]]]
    var tokens: [(key: [UInt8], value: PieceJSON)] = []
    if addsBegin, let begin {
      single.insert(["SpecialToken": ["id": "begin"]], at: 0)
      tokens.append((Array("begin".utf8), ["ids": [.number(Double(begin))]]))
    }
    if addsEnd {
      single.append(["SpecialToken": ["id": "end"]])
      tokens.append((Array("end".utf8), ["ids": [.number(Double(ends[0]))]]))
    }
    return [
      "type": "TemplateProcessing", "single": .array(single), "special_tokens": .object(tokens),
    ]
  }
}
