/// The numbers of the metadata keys: `formats/PIOM.md` §5. A reader may skip keys from 0x8000 on.
enum MetadataKey: UInt16, CaseIterable {
  case textDim = 0x0001
  case textHiddenDim = 0x0002
  case textLayerCount = 0x0003
  case textHeadCount = 0x0004
  case textKVHeadCount = 0x0005
  case textHeadDim = 0x0006
  case textVocabSize = 0x0007
  case textMaxPositions = 0x0008
  case textRMSNormEpsilon = 0x0009
  case textRopeTheta = 0x000A
  case textRopeScaling = 0x000B
  case textRopeAttentionFactor = 0x000C
  case textQueryKeyValueBias = 0x000D
  case textAttentionOutputBias = 0x000E
  case textMLPBias = 0x000F
  case textTiedHead = 0x0010
  case textSlidingWindow = 0x0011
  case textRopeSections = 0x0012
  case textRopeInterleaves = 0x0013
  case textQueryKeyNorm = 0x0014

  case visionImageSize = 0x0101
  case visionPatchSize = 0x0102
  case visionDim = 0x0103
  case visionHiddenDim = 0x0104
  case visionLayerCount = 0x0105
  case visionHeadCount = 0x0106
  case visionLayerNormEpsilon = 0x0107
  case visionActivation = 0x0108
  case visionDropsClassToken = 0x0109
  case projectorHiddenDim = 0x010A
  case projectorActivation = 0x010B
  case projectorBias = 0x010C
  case projectorShuffle = 0x010D
  case visionMerge = 0x010E
  case visionWindow = 0x010F
  case visionFullLayers = 0x0110
  case visionPositionsPerSide = 0x0111
  case visionDeepstackLayers = 0x0112
  case imageFit = 0x0181
  case imageFilter = 0x0182
  case imageResizeTo = 0x0183
  case imageRescaleFactor = 0x0184
  case imageMean = 0x0185
  case imageStd = 0x0186
  case imagePadColor = 0x0187
  case imageResolutions = 0x0188
  case imageLongestEdge = 0x0189
  case imageSplits = 0x018A
  case imageMarkers = 0x018B
  case imageLeastPixels = 0x018C
  case imageMostPixels = 0x018D

  case promptName = 0x0201
  case promptSystemPrefix = 0x0202
  case promptSystemSuffix = 0x0203
  case promptDefaultSystem = 0x0204
  case promptUserPrefix = 0x0205
  case promptUserSuffix = 0x0206
  case promptAssistantPrefix = 0x0207
  case promptAssistantSuffix = 0x0208
  case promptImagePart = 0x0209
  case promptAddsBeginToken = 0x020A
  case promptTextPrefix = 0x020B
  case promptBareTextPrefix = 0x020C
  case promptConversationPrefix = 0x020D

  case tokenBegin = 0x0301
  case tokenEnd = 0x0302
  case tokenImage = 0x0303

  case provenanceConverter = 0x8001
  case provenanceRecipe = 0x8002
  case provenanceSources = 0x8003
}

/// The numbers of the metadata types.
enum MetadataType: UInt16 {
  case integer = 1
  case float = 2
  case string = 3
  case integers = 4
  case floats = 5
  case strings = 6
}

/// One direction of the metadata: writes each field's value, or reads it into the field.
/// Fields come in the order of their keys.
protocol MetadataCoder {
  mutating func integer(_ key: MetadataKey, _ value: inout Int) throws(ModelFileError)
  mutating func float(_ key: MetadataKey, _ value: inout Float) throws(ModelFileError)
  mutating func string(_ key: MetadataKey, _ value: inout String) throws(ModelFileError)
  mutating func integers(_ key: MetadataKey, _ value: inout [Int]) throws(ModelFileError)
  mutating func floats(_ key: MetadataKey, _ value: inout [Float]) throws(ModelFileError)
  mutating func strings(_ key: MetadataKey, _ value: inout [String]) throws(ModelFileError)
  /// Whether an entry that only some models have is coded: where the value `isPresent`, or is in the file.
  func codes(_ key: MetadataKey, isPresent: Bool) -> Bool
}

/// Entries of 8 bytes (key, type, value's byte count), each followed by its value, padded to 8.
struct MetadataEncoder: MetadataCoder {
  private(set) var bytes: [UInt8] = []

  private mutating func entry(_ key: MetadataKey, _ type: MetadataType, _ value: [UInt8]) {
    bytes.append(integer: key.rawValue)
    bytes.append(integer: type.rawValue)
    bytes.append(integer: UInt32(value.count))
    bytes += value
    bytes.pad(toMultipleOf: 8)
  }

  mutating func integer(_ key: MetadataKey, _ value: inout Int) { integers(key, .integer, [value]) }

  mutating func integers(_ key: MetadataKey, _ value: inout [Int]) {
    integers(key, .integers, value)
  }

  mutating func float(_ key: MetadataKey, _ value: inout Float) { floats(key, .float, [value]) }

  mutating func floats(_ key: MetadataKey, _ value: inout [Float]) { floats(key, .floats, value) }

  mutating func string(_ key: MetadataKey, _ value: inout String) {
    entry(key, .string, Array(value.utf8))
  }

  func codes(_ key: MetadataKey, isPresent: Bool) -> Bool { isPresent }

  mutating func strings(_ key: MetadataKey, _ value: inout [String]) {
    var out: [UInt8] = []
    for string in value {
      out.append(integer: UInt32(string.utf8.count))
      out += string.utf8
    }
    entry(key, .strings, out)
  }

  private mutating func integers(_ key: MetadataKey, _ type: MetadataType, _ values: [Int]) {
    var out: [UInt8] = []
    for value in values { out.append(integer: Int64(value)) }
    entry(key, type, out)
  }

  private mutating func floats(_ key: MetadataKey, _ type: MetadataType, _ values: [Float]) {
    var out: [UInt8] = []
    for value in values { out.append(integer: value.bitPattern) }
    entry(key, type, out)
  }
}

/// Keys ascend and are unique; every key below 0x8000 is known and of the right type.
struct MetadataDecoder: MetadataCoder {
  private struct Entry {
    let key: UInt16
    let type: UInt16
    let value: ArraySlice<UInt8>
  }
  private var entries: ArraySlice<Entry> = []

  init(_ bytes: ArraySlice<UInt8>) throws(ModelFileError) {
    var reader = ByteReader(bytes, section: "metadata")
    var list: [Entry] = []
    while reader.remaining > 0 {
      let key = try reader.integer(UInt16.self)
      let type = try reader.integer(UInt16.self)
      let count = try reader.count()
      let value = try reader.take(count)
      let padding = try reader.take(roundUp(count, 8) - count)
      guard padding.allSatisfy({ $0 == 0 }) else {
        throw .metadata(key: name(key), problem: "its padding is not zero")
      }
      if let last = list.last, last.key >= key {
        throw .metadata(key: name(key), problem: "out of order, behind \(name(last.key))")
      }
      list.append(Entry(key: key, type: type, value: value))
    }
    entries = list[...]
  }

  /// Whether the next entry a reader must know is `key`.
  func isNext(_ key: MetadataKey) -> Bool { entries.first?.key == key.rawValue }

  func has(_ key: MetadataKey) -> Bool { entries.contains { $0.key == key.rawValue } }

  func codes(_ key: MetadataKey, isPresent: Bool) -> Bool { isNext(key) }

  /// Throws where an entry is left that a reader must know.
  mutating func finish() throws(ModelFileError) {
    for entry in entries where entry.key < 0x8000 {
      throw .metadata(key: name(entry.key), problem: "unknown, or of no use in this model")
    }
  }

  private mutating func value(
    _ key: MetadataKey, _ type: MetadataType
  ) throws(ModelFileError) -> ArraySlice<UInt8>? {
    // Optional keys that this reader does not know stand behind all others.
    while let entry = entries.first, entry.key >= 0x8000, entry.key < key.rawValue {
      entries.removeFirst()
    }
    guard let entry = entries.first, entry.key == key.rawValue else {
      if key.rawValue >= 0x8000 { return nil }
      let found = entries.first.map { ", found \(name($0.key))" } ?? ""
      throw .metadata(key: "\(key)", problem: "missing" + found)
    }
    guard entry.type == type.rawValue else {
      throw .metadata(key: "\(key)", problem: "type \(entry.type), needed \(type.rawValue)")
    }
    entries.removeFirst()
    return entry.value
  }

  mutating func integer(_ key: MetadataKey, _ value: inout Int) throws(ModelFileError) {
    value = try integers(key, .integer, one: true)?.first ?? value
  }

  mutating func integers(_ key: MetadataKey, _ value: inout [Int]) throws(ModelFileError) {
    value = try integers(key, .integers, one: false) ?? value
  }

  mutating func float(_ key: MetadataKey, _ value: inout Float) throws(ModelFileError) {
    value = try floats(key, .float, one: true)?.first ?? value
  }

  mutating func floats(_ key: MetadataKey, _ value: inout [Float]) throws(ModelFileError) {
    value = try floats(key, .floats, one: false) ?? value
  }

  mutating func string(_ key: MetadataKey, _ value: inout String) throws(ModelFileError) {
    guard let bytes = try self.value(key, .string) else { return }
    value = try text(key, bytes)
  }

  mutating func strings(_ key: MetadataKey, _ value: inout [String]) throws(ModelFileError) {
    guard let bytes = try self.value(key, .strings) else { return }
    var reader = ByteReader(bytes, section: "metadata \(key)")
    value = []
    while reader.remaining > 0 {
      let count = try reader.count()
      value.append(try text(key, reader.take(count)))
    }
  }

  private func text(_ key: MetadataKey, _ bytes: ArraySlice<UInt8>) throws(ModelFileError) -> String
  {
    guard let string = String(validating: bytes, as: UTF8.self) else {
      throw .metadata(key: "\(key)", problem: "not UTF-8")
    }
    return string
  }

  private mutating func integers(
    _ key: MetadataKey, _ type: MetadataType, one: Bool
  ) throws(ModelFileError) -> [Int]? {
    guard let bytes = try value(key, type) else { return nil }
    try checkCount(key, bytes.count, of: 8, one: one)
    var reader = ByteReader(bytes, section: "metadata \(key)")
    var values: [Int] = []
    while reader.remaining > 0 { values.append(Int(try reader.integer(Int64.self))) }
    return values
  }

  private mutating func floats(
    _ key: MetadataKey, _ type: MetadataType, one: Bool
  ) throws(ModelFileError) -> [Float]? {
    guard let bytes = try value(key, type) else { return nil }
    try checkCount(key, bytes.count, of: 4, one: one)
    var reader = ByteReader(bytes, section: "metadata \(key)")
    var values: [Float] = []
    while reader.remaining > 0 { values.append(Float(bitPattern: try reader.integer(UInt32.self))) }
    return values
  }

  private func checkCount(
    _ key: MetadataKey, _ count: Int, of size: Int, one: Bool
  ) throws(ModelFileError) {
    guard one ? count == size : count % size == 0 else {
      throw .metadata(key: "\(key)", problem: "a value of \(count) bytes")
    }
  }
}

private func name(_ key: UInt16) -> String {
  MetadataKey(rawValue: key).map { "\($0)" } ?? "0x\(String(key, radix: 16))"
}
