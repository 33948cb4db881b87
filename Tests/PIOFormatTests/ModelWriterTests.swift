import Foundation
import Testing

@testable import PIOFormat

private func begin(_ sample: Sample, _ path: String) throws -> ModelWriter {
  try ModelWriter(
    path: path, config: sample.config, encodings: sample.encodings,
    tokenizerSection: sample.tokenizer, provenance: sample.provenance, replacing: false)
}

@Test func aDroppedWriterLeavesNothing() throws {
  let sample = Sample(seed: 5)
  try withTemporaryFolder { folder in
    func writeHalf() throws {
      var writer = try begin(sample, folder + "/a.piom")
      try sample.data[0].withUnsafeBytes { try writer.append($0) }
    }
    try writeHalf()
    try #expect(entries(of: folder).isEmpty)
  }
}

@Test func finishingTooEarlyIsAnErrorAndLeavesNothing() throws {
  let sample = Sample(seed: 5)
  try withTemporaryFolder { folder in
    func writeHalf() throws {
      var writer = try begin(sample, folder + "/a.piom")
      try sample.data[0].withUnsafeBytes { try writer.append($0) }
      try sample.data[1].dropLast().withUnsafeBytes { try writer.append($0) }
      try writer.finish()
    }
    let name = tensorSpecs(for: sample.config)[1].name
    #expect(
      throws: ModelFileError.truncated(
        section: "tensor " + name, neededBytes: sample.data[1].count,
        foundBytes: sample.data[1].count - 1)
    ) { try writeHalf() }
    try #expect(entries(of: folder).isEmpty)
  }
}

@Test func moreDataThanTheTensorsTakeIsAnError() throws {
  let sample = Sample(seed: 5)
  try withTemporaryFolder { folder in
    func writeTooMuch() throws {
      var writer = try begin(sample, folder + "/a.piom")
      try ([UInt8](sample.data.joined()) + [0]).withUnsafeBytes { try writer.append($0) }
    }
    #expect(
      throws: ModelFileError.wrongByteCount(
        section: "tensor data", neededBytes: 0, foundBytes: 1)
    ) { try writeTooMuch() }
  }
}

@Test func anExistingFileIsReplacedOnlyOnDemand() throws {
  let (old, new) = (Sample(seed: 5), Sample(seed: 6))
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    try old.write(to: path)
    #expect(throws: ModelFileError.exists(path: path)) { try new.write(to: path) }
    try #expect(ModelFile(path: path).config == old.config)
    try new.write(to: path, replacing: true)
    try #expect(ModelFile(path: path).config == new.config)
    try #expect(entries(of: folder) == ["a.piom"])
  }
}

@Test func aFileThatAppearsWhileAnotherIsWrittenIsKept() throws {
  let sample = Sample(seed: 5)
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    func writeLate() throws {
      var writer = try begin(sample, path)
      try sample.data.flatMap { $0 }.withUnsafeBytes { try writer.append($0) }
      try Data([1, 2, 3]).write(to: URL(fileURLWithPath: path))
      try writer.finish()
    }
    #expect(throws: ModelFileError.exists(path: path)) { try writeLate() }
    try #expect(readFile(path) == [1, 2, 3])
    try #expect(entries(of: folder) == ["a.piom"])
  }
}

/// The whole file is read again before it gets its name: here somebody wrote into a gap of it.
@Test func aFileThatIsNotWhatWasWrittenGetsNoName() throws {
  let sample = Sample(seed: 5)
  try withTemporaryFolder { folder in
    func writeDamaged() throws {
      var writer = try begin(sample, folder + "/a.piom")
      try sample.data.flatMap { $0 }.withUnsafeBytes { try writer.append($0) }
      let tensors = writer.layout.tensors
      let end = try #require(
        zip(tensors, tensors.dropFirst()).lazy.map { ($0.offset + $0.byteCount, $1.offset) }
          .first { $0 < $1 }?.0)
      let links = try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd")
      let link = try #require(
        links.first {
          let target = try? FileManager.default.destinationOfSymbolicLink(
            atPath: "/proc/self/fd/\($0)")
          return target?.contains(folder) == true
        })
      let file = open("/proc/self/fd/\(link)", O_WRONLY)
      defer { close(file) }
      try #require(pwrite(file, [UInt8(7)], 1, off_t(end)) == 1)
      try writer.finish()
    }
    #expect {
      try writeDamaged()
    } throws: {
      guard case .padding? = $0 as? ModelFileError else { return false }
      return true
    }
    try #expect(entries(of: folder).isEmpty)
  }
}

@Test func aFolderIsNoTarget() throws {
  let sample = Sample(seed: 5)
  try withTemporaryFolder { folder in
    #expect(throws: ModelFileError.notAFile(path: folder)) {
      try sample.write(to: folder, replacing: true)
    }
    #expect(throws: ModelFileError.cannotWrite(path: folder + "/b/a.piom", errno: ENOENT)) {
      try sample.write(to: folder + "/b/a.piom")
    }
  }
}

@Test func anEncodingThatTheRoleForbidsIsRefusedBeforeAnythingIsWritten() throws {
  var sample = Sample(seed: 5)
  sample.encodings[0] = TensorEncoding(kind: .f16, layout: .rows, group: 0)
  try withTemporaryFolder { folder in
    #expect {
      try sample.write(to: folder + "/a.piom")
    } throws: {
      guard case .tensor("text.rope.inverse_frequencies", "encoding", _, _)? = $0 as? ModelFileError
      else { return false }
      return true
    }
    try #expect(entries(of: folder).isEmpty)
  }
}

@Test func aFileLargerThanTheDiskIsRefusedAtOnce() throws {
  var config = Sample(seed: 5, vision: false).config
  config.text.vocabSize = 1 << 22
  config.text.dim = 1 << 20
  let encodings = tensorSpecs(for: config).map { _ in TensorEncoding.f32 }
  try withTemporaryFolder { folder in
    #expect {
      _ = try ModelWriter(
        path: folder + "/a.piom", config: config, encodings: encodings, tokenizerSection: [],
        provenance: Provenance(converter: "", recipe: "", sources: []), replacing: false
      ).layout
    } throws: {
      guard case .noSpace? = $0 as? ModelFileError else { return false }
      return true
    }
  }
}
