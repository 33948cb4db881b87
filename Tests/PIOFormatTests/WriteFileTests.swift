import Foundation
import Testing

@testable import PIOFormat

@Test func aFileIsReplacedInOneStep() throws {
  try withTemporaryFolder { folder in
    let path = folder + "/a.json"
    for bytes in [[1, 2, 3], [4], []] as [[UInt8]] {
      // Whoever has the old file open still sees the old bytes.
      let old = FileHandle(forReadingAtPath: path)
      let before = try? readFile(path)
      try writeFile(bytes, to: path)
      try #expect(readFile(path) == bytes)
      try #expect(old.map { try [UInt8]($0.readToEnd() ?? Data()) } == before)
    }
    try #expect(entries(of: folder) == ["a.json"])
  }
}

@Test func aFileThatCannotBeWrittenLeavesNothing() throws {
  try withTemporaryFolder { folder in
    #expect(throws: ModelFileError.cannotWrite(path: folder + "/none/a", errno: ENOENT)) {
      try writeFile([1], to: folder + "/none/a")
    }
    #expect(throws: ModelFileError.cannotWrite(path: folder, errno: EISDIR)) {
      try writeFile([1], to: folder)
    }
    try #expect(entries(of: folder).isEmpty)
  }
}

@Test func aLinkStaysALinkAndItsFileIsReplaced() throws {
  try withTemporaryFolder { folder in
    let (path, link) = (folder + "/a", folder + "/link")
    try Data([9]).write(to: URL(fileURLWithPath: path))
    try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: path)
    try writeFile([1, 2], to: link)
    try #expect(readFile(path) == [1, 2])
    try #expect(FileManager.default.destinationOfSymbolicLink(atPath: link) == path)
  }
}

private func failure(_ body: () throws(ModelFileError) -> Void) -> ModelFileError? {
  do {
    try body()
    return nil
  } catch {
    return error
  }
}

@Test func aDeviceIsWrittenWhereItIs() throws {
  try withTemporaryFolder { folder in
    for (device, code) in [("/dev/null", nil), ("/dev/full", ENOSPC)] as [(String, Int32?)] {
      let link = folder + device.replacingOccurrences(of: "/", with: "-")
      try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: device)
      let found = failure { () throws(ModelFileError) in try writeFile([1, 2, 3], to: link) }
      #expect(found == code.map { ModelFileError.cannotWrite(path: link, errno: $0) })
      try #expect(FileManager.default.destinationOfSymbolicLink(atPath: link) == device)
    }
  }
}

/// More than a pipe holds at a time, to a slow reader.
@Test func aPipeGetsEveryByte() throws {
  try withTemporaryFolder { folder in
    let path = folder + "/pipe"
    try #require(mkfifo(path, 0o600) == 0)
    let bytes = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
    let done = DispatchSemaphore(value: 0)
    nonisolated(unsafe) var found: [UInt8] = []
    Thread.detachNewThread {
      let file = FileHandle(forReadingAtPath: path)
      while let piece = try? file?.read(upToCount: 5000), !piece.isEmpty { found += piece }
      done.signal()
    }
    try writeFile(bytes, to: path)
    done.wait()
    #expect(found == bytes)
    var status = stat()
    #expect(stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFIFO)
  }
}
