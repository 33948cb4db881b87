import Testing

@testable import PIOFormat

private let whole = Forge(try! Sample(seed: 3, vision: true).bytes())

private func verdict(_ change: (inout Forge) -> Void) -> ModelFileError? {
  var forge = whole
  change(&forge)
  return forge.verdict()
}

private func field(_ error: ModelFileError?) -> String? {
  switch error {
  case .tensor(_, let field, _, _): field
  case .outOfBounds(let field, _, _): field
  case .metadata(let key, _): key
  default: nil
  }
}

@Test func theForgedWholeIsAccepted() { #expect(verdict { _ in } == nil) }

@Test func whatThisReaderDoesNotKnowIsRefused() {
  #expect(verdict { $0.set(8, UInt64(1) << 63) } == .unsupportedFeatures(bits: 1 << 63))
  #expect(verdict { $0.set(8, UInt64(16)) } == .unsupportedFeatures(bits: 16))
  #expect(verdict { $0.set(6, UInt16(2)) } == .unsupportedVersion(found: 2, supported: 1))
  #expect(verdict { $0.set(6, UInt16(0)) } == .unsupportedVersion(found: 0, supported: 1))
  #expect(verdict { $0.set(4, UInt16(0x0201)) } == .wrongEndianness(found: 0x0201))
  #expect(verdict { $0.bytes[0] = 0x47 } == .notAModelFile)
}

@Test(arguments: [
  (16, "activations of more than 8 bits"), (4, "unknown features (bits 0x10)"),
  (63, "unknown features (bits 0x8000000000000000)"),
])
func aFeatureThatIsNotSupportedIsRefusedByName(bit: Int, name: String) throws {
  let error = try #require(verdict { $0.set(8, UInt64(1) << UInt64(bit)) })
  #expect("\(error)" == "the file needs support for \(name), which this version lacks")
}

@Test func severalFeaturesThatAreNotSupportedAreAllNamed() throws {
  let error = try #require(verdict { $0.set(8, UInt64(1) << 63 | 1 << 16) })
  #expect(
    "\(error)"
      == "the file needs support for activations of more than 8 bits"
      + " and unknown features (bits 0x8000000000000000), which this version lacks")
}

@Test func aFeatureAndItsFamilyGoTogether() {
  #expect(field(verdict { $0.set(8, UInt64(1)) }) == "header.features")
  for (seed, bit) in [(2, 1), (12, 2), (4, 4), (20, 8)] as [(UInt64, UInt64)] {
    var forge = Forge(try! Sample(seed: seed, vision: true).bytes())
    #expect(forge.verdict() == nil && forge.integer(8, UInt64.self) == bit)
    for other in [0, 1, 2, 4, 8] as [UInt64] where other != bit {
      forge.set(8, other)
      #expect(field(forge.verdict()) == "header.features")
    }
  }
}

@Test(arguments: [(16, 8), (24, 4), (28, 4), (32, 4), (36, 4)])
func absurdSizesInTheHeaderAreRefused(offset: Int, size: Int) {
  var values: [UInt64] = [0, 1, 47, 1 << 20, 1 << 28, 1 << 31, .max, .max - 1, 1 << 63, 1 << 62]
  let old =
    size == 8 ? whole.integer(offset, UInt64.self) : UInt64(whole.integer(offset, UInt32.self))
  values += [old &- 1, old &+ 1, old &+ 8, old &+ 64]
  // Where the tokenizer ends is the tokenizer's own business; behind the zeros it is ours.
  for value in values.map({ size == 8 ? $0 : $0 & 0xFFFF_FFFF }) where value != old {
    if offset == 36 && value <= 65_536 { continue }
    #expect(
      verdict {
        if size == 8 {
          $0.set(offset, value)
        } else {
          $0.set(offset, UInt32(truncatingIfNeeded: value))
        }
      } != nil, "\(value) at \(offset)")
  }
}

@Test func everyFieldOfADirectoryEntryHasOneRightValue() {
  let entry = whole.entry(2)
  let fields: [(Int, Int, String)] = [
    (0, 8, "offset"), (8, 8, "size"), (24, 4, "rows"), (28, 4, "columns"), (36, 2, "name"),
    (38, 2, "section"), (40, 4, "section index"),
  ]
  for (offset, size, name) in fields {
    for delta: UInt64 in [1, 64, .max, 1 << 15, 1 << 31, 1 << 63, .max - 63] {
      let error = verdict {
        switch size {
        case 8: $0.set(entry + offset, $0.integer(entry + offset, UInt64.self) &+ delta)
        case 4:
          $0.set(
            entry + offset,
            $0.integer(entry + offset, UInt32.self) &+ UInt32(truncatingIfNeeded: delta))
        default:
          $0.set(
            entry + offset,
            $0.integer(entry + offset, UInt16.self) &+ UInt16(truncatingIfNeeded: delta))
        }
      }
      let unchanged = delta.trailingZeroBitCount >= 8 * size
      if unchanged {
        #expect(error == nil)
      } else if case .truncated("directory", _, _)? = error {
        #expect(name == "name")
      } else {
        #expect(field(error) == name, "\(name) + \(delta): \(String(describing: error))")
      }
    }
  }
  #expect(verdict { $0.bytes[entry + 44] = 1 } == .padding(offset: entry + 44))
}

@Test func unknownKindsLayoutsAndGroupsAreRefused() {
  let entry = whole.entry(2)
  for kind in [UInt8(6), 100, 255] {
    #expect(field(verdict { $0.bytes[entry + 32] = kind }) == "encoding")
  }
  for layout in [UInt8(2), 255] {
    #expect(field(verdict { $0.bytes[entry + 33] = layout }) == "encoding")
  }
  for group in [UInt16(1), 31, 33, 256, .max] {
    #expect(field(verdict { $0.set(entry + 34, group) }) == "encoding")
  }
}

@Test func twoTensorsAtOnePlaceAreRefused() {
  let second = whole.integer(whole.entry(1), UInt64.self)
  #expect(field(verdict { $0.set($0.entry(2), second) }) == "offset")
}

@Test func namesOutOfOrderAreRefused() {
  let error = verdict { forge in
    // The first two letters of "text.rope…" and of the name behind it change places.
    forge.bytes.swapAt(forge.namesOffset, forge.namesOffset + 1)
  }
  #expect(
    error
      == .tensor(
        name: "text.rope.inverse_frequencies", field: "name",
        needed: "text.rope.inverse_frequencies", found: "etxt.rope.inverse_frequencies"))
}

@Test(arguments: [
  (MetadataKey.textDim, Int64(0)), (.textDim, -1), (.textDim, .max), (.textLayerCount, 1 << 40),
  (.textHeadCount, 0), (.textKVHeadCount, 0), (.textHeadDim, 3), (.textVocabSize, 1 << 40),
  (.textTiedHead, 2), (.textRopeScaling, 4), (.visionPatchSize, 0), (.visionImageSize, 8191),
  (.visionActivation, 256), (.visionLayerCount, -1), (.imageResizeTo, 1), (.imageResizeTo, 8193),
  (.imagePadColor, 1 << 24),
  (.imageFit, -1), (.tokenBegin, -2), (.tokenBegin, 1 << 32), (.tokenImage, -1),
  (.tokenEnd, 1 << 31), (.promptAddsBeginToken, .min), (.textSlidingWindow, 0),
  (.textSlidingWindow, -1), (.visionDropsClassToken, 0), (.imageFit, 0), (.imageResolutions, 0),
  (.imageResolutions, -1), (.imageResolutions, .max), (.imageResolutions, 8191),
])
func numbersOutOfBoundsAreRefused(key: MetadataKey, value: Int64) {
  let error = verdict { $0.set($0.metadata(key), value) }
  guard case .outOfBounds? = error else {
    Issue.record("\(key) = \(value): \(String(describing: error))")
    return
  }
}

@Test(arguments: [
  MetadataKey.textRMSNormEpsilon, .textRopeTheta, .visionLayerNormEpsilon, .imageStd,
  .imageRescaleFactor,
])
func numbersThatAreNoPositiveNumbersAreRefused(key: MetadataKey) {
  for value in [Float.nan, .infinity, -.infinity, 0, -1, -0.0] {
    guard case .outOfBounds? = verdict({ $0.set($0.metadata(key), value.bitPattern) }) else {
      Issue.record("\(key) = \(value)")
      continue
    }
  }
}

@Test func metadataThatIsNotWellFormedIsRefused() {
  let dim = whole.metadata(.textDim) - 8
  #expect(field(verdict { $0.set(dim, UInt16(0x7000)) }) == "textHiddenDim")
  #expect(field(verdict { $0.set(dim + 2, UInt16(2)) }) == "textDim")
  #expect(field(verdict { $0.set(dim + 4, UInt32(16)) }) != nil)
  #expect(
    verdict { $0.set(dim + 4, UInt32.max) }
      == .truncated(
        section: "metadata", neededBytes: Int(UInt32.max), foundBytes: whole.metadataByteCount - 8))
  #expect(field(verdict { $0.bytes[$0.metadata(.promptName)] = 0xFF }) == "promptName")
  #expect(field(verdict { $0.bytes[$0.metadata(.promptName) + 9] = 1 }) == "promptName")
  // Padding between the metadata and the tokenizer, and between that and the first tensor.
  #expect(
    verdict { $0.bytes[$0.dataOffset - 1] = 1 } == .padding(offset: whole.dataOffset - 1))
}

@Test func optionalMetadataOfLaterVersionsIsSkippedAndOtherIsNot() throws {
  // The last entry, the sources, under a key that does not exist yet.
  let sources = whole.metadata(.provenanceSources) - 8
  var forge = whole
  forge.set(sources, UInt16(0xF000))
  forge.seal()
  let contents = try forge.bytes.withUnsafeBytes { try ModelContents($0) }
  #expect(contents.provenance.sources.isEmpty)
  let begin = whole.metadata(.tokenImage) - 8
  #expect(field(verdict { $0.set(begin, UInt16(0x0304)) }) == "tokenImage")
}

@Test func controlCharactersInTextsThatArePrintedAreRefused() {
  #expect(
    field(verdict { $0.bytes[$0.metadata(.provenanceRecipe)] = 0x1B }) == "provenance.recipe")
  #expect(field(verdict { $0.bytes[$0.metadata(.promptName)] = 0x0A }) == "prompt.name")
}

/// Whatever a forger changes, the reader answers, and what it accepts it can also read.
@Test func randomForgeriesNeverCrash() {
  var random = TestRandom(11)
  var accepted = 0
  for _ in 0..<4000 {
    var forge = whole
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let offset = Int.random(in: 0..<forge.tokenizerEnd, using: &random)
      let value: UInt64 =
        Bool.random(using: &random)
        ? .random(in: 0...300, using: &random) : 1 << UInt64.random(in: 0..<64, using: &random)
      switch Int.random(in: 0..<3, using: &random) {
      case 0: forge.bytes[offset] = UInt8(truncatingIfNeeded: random.next())
      case 1: forge.set(offset & ~7, value)
      default: forge.set(offset & ~3, UInt32(truncatingIfNeeded: value))
      }
      guard forge.tokenizerEnd <= forge.bytes.count else { break }
    }
    if forge.verdict() == nil { accepted += 1 }
  }
  #expect(accepted > 0)
}

/// Images at their own shape have positions of three numbers.
@Test(arguments: [UInt64(4), 12, 20]) func ownShapesNeedSectionsOfPositions(_ seed: UInt64) throws {
  var config = Sample(seed: seed, vision: true).config
  try config.validate()
  config.text.ropeSections = []
  #expect(throws: ModelFileError.self) { try config.validate() }
}

/// What is added behind a layer comes from one of the tower's, in their order, and goes to one that the decoder has.
@Test func layersThatAreAddedBehindOthersAreThere() throws {
  let config = Sample(seed: 20, vision: true).config
  guard case .qwen3VL(var qwen)? = config.vision else {
    Issue.record("the sample is not of Qwen3-VL")
    return
  }
  func verdict(_ layers: [Int], decoder: Int) -> ModelFileError? {
    var changed = config
    changed.text.layerCount = decoder
    qwen.tower.layerCount = 3
    qwen.deepstackLayers = layers
    changed.vision = .qwen3VL(qwen)
    do { try changed.validate() } catch { return error }
    return nil
  }
  for layers in [[], [0], [0, 2], [0, 1, 2]] { #expect(verdict(layers, decoder: 3) == nil) }
  for layers in [[3], [-1], [1, 0], [1, 1], [2, 2]] { #expect(verdict(layers, decoder: 3) != nil) }
  #expect(field(verdict([0, 1, 2], decoder: 2)) == "vision.deepstack_layers (count)")
}
