import Foundation
import Testing

@testable import PIOFormat

private let sample = Sample(seed: 3, vision: true)
private let whole = Forge(try! sample.bytes())

@Test func everyPrefixIsRefused() {
  // Beyond the first part a cut shows in the length alone.
  var cuts = Array(0...whole.dataOffset + 64)
  var random = TestRandom(1)
  for _ in 0..<2000 { cuts.append(.random(in: 0..<whole.bytes.count, using: &random)) }
  whole.bytes.withUnsafeBytes { bytes in
    for count in cuts {
      let error = modelError(UnsafeRawBufferPointer(rebasing: bytes[..<count]))
      let needed = count < 64 ? ("header", 64) : ("file", bytes.count)
      #expect(
        error == .truncated(section: needed.0, neededBytes: needed.1, foundBytes: count),
        "cut at \(count)")
    }
  }
}

/// Cuts that a forger covers up: the header states the shorter length.
@Test func everyForgedPrefixIsRefused() throws {
  let specs = tensorSpecs(for: sample.config)
  var cuts = [64, whole.namesOffset, whole.metadataOffset, whole.metadataEnd, whole.tokenizerEnd]
  var end = whole.dataOffset
  for index in specs.indices {
    let offset = Int(whole.integer(whole.entry(index), UInt64.self))
    cuts += [end, offset]
    end = offset + Int(whole.integer(whole.entry(index) + 8, UInt64.self))
  }
  var random = TestRandom(1)
  for _ in 0..<500 { cuts.append(.random(in: 65..<whole.bytes.count - 1, using: &random)) }
  for cut in cuts {
    for count in [cut - 1, cut, cut + 1] where count >= 64 && count < whole.bytes.count {
      var forged = Forge(Array(whole.bytes[..<count]))
      forged.set(16, UInt64(count))
      #expect(forged.verdict() != nil, "cut at \(count)")
    }
  }
  var longer = Forge(whole.bytes + [0])
  #expect(
    longer.verdict()
      == .wrongByteCount(
        section: "file", neededBytes: whole.bytes.count, foundBytes: whole.bytes.count + 1))
  longer.set(16, UInt64(longer.bytes.count))
  #expect(
    longer.verdict()
      == .wrongByteCount(
        section: "tensor data", neededBytes: whole.bytes.count, foundBytes: whole.bytes.count + 1))
}

@Test func aFlippedBitInFrontOfTheTensorsIsFoundAtLoad() {
  var random = TestRandom(2)
  var bytes = whole.bytes
  var offsets = Array(0..<whole.tokenizerEnd)
  for _ in 0..<500 {
    offsets.append(.random(in: whole.tokenizerEnd..<whole.dataOffset, using: &random))
  }
  #expect(bytes.withUnsafeBytes { modelError($0) } == nil)
  for offset in offsets {
    let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &random)
    bytes[offset] ^= bit
    #expect(bytes.withUnsafeBytes { modelError($0) } != nil, "byte \(offset)")
    bytes[offset] ^= bit
  }
}

@Test func aFlippedBitInTheTensorsIsFoundByVerify() throws {
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    var random = TestRandom(3)
    for round in 0..<60 {
      var bytes = whole.bytes
      // A tensor's byte and any byte in turn: much of a small file is zeros between sections.
      let entry = whole.entry(.random(in: 0..<whole.tensorCount, using: &random))
      let start = Int(whole.integer(entry, UInt64.self))
      let size = Int(whole.integer(entry + 8, UInt64.self))
      let range = round % 2 == 1 ? start..<start + size : whole.dataOffset..<bytes.count
      let offset = Int.random(in: range, using: &random)
      if round > 0 { bytes[offset] ^= 1 << UInt8.random(in: 0..<8, using: &random) }
      try Data(bytes).write(to: URL(fileURLWithPath: path))
      let file = try ModelFile(path: path)
      var found: ModelFileError?
      do throws(ModelFileError) { try file.verify() } catch { found = error }
      #expect((found != nil) == (round > 0), "byte \(offset)")
    }
  }
}

@Test func theErrorNamesTheDamagedTensorOrThePaddingByte() throws {
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    let file = whole
    let (first, second) = (file.entry(0), file.entry(1))
    var bytes = file.bytes
    let offset = Int(file.integer(second, UInt64.self))
    bytes[offset] ^= 1
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    func verify() throws { try ModelFile(path: path).verify() }
    #expect(throws: ModelFileError.wrongChecksum(section: "tensor text.embedding")) {
      try verify()
    }
    let end = Int(file.integer(first, UInt64.self) + file.integer(first + 8, UInt64.self))
    try #require(end < offset)
    bytes[end] = 1
    try Data(bytes).write(to: URL(fileURLWithPath: path))
    #expect(throws: ModelFileError.padding(offset: end)) { try verify() }
  }
}

@Test func whatIsNoModelFileIsRefusedWithoutHanging() throws {
  try withTemporaryFolder { folder in
    func error(_ path: String) -> ModelFileError? {
      do throws(ModelFileError) { _ = try ModelFile(path: path).byteCount } catch { return error }
      return nil
    }
    #expect(error(folder) == .notAFile(path: folder))
    #expect(error(folder + "/none") == .cannotOpen(path: folder + "/none", errno: ENOENT))
    let path = folder + "/a"
    try Data().write(to: URL(fileURLWithPath: path))
    #expect(error(path) == .truncated(section: "file", neededBytes: 1, foundBytes: 0))
    try Data("PK\u{3}\u{4}".utf8).write(to: URL(fileURLWithPath: path))
    #expect(error(path) == .notAModelFile)
    try Data("PIO".utf8).write(to: URL(fileURLWithPath: path))
    #expect(error(path) == .truncated(section: "header", neededBytes: 64, foundBytes: 3))
    try #require(mkfifo(folder + "/pipe", 0o600) == 0)
    #expect(error(folder + "/pipe") == .notAFile(path: folder + "/pipe"))
    #expect(error("/dev/null") == .notAFile(path: "/dev/null"))
    if getuid() != 0 {
      try #require(chmod(path, 0) == 0)
      #expect(error(path) == .cannotOpen(path: path, errno: EACCES))
    }
  }
}
