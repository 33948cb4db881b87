import Foundation
import Testing

@testable import PIOFormat

@Test(arguments: [true, false], [true, false])
func theNameAppearsWithTheWholeFile(unnamed: Bool, replacing: Bool) throws {
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    if replacing { try Data([9]).write(to: URL(fileURLWithPath: path)) }
    let before = replacing ? ["a.piom"] : []
    func write() throws {
      var file = try OutputFile(path: path, replacing: replacing, unnamed: unnamed)
      try file.write([1, 2, 3], at: 2)
      let partial = try entries(of: folder).filter { !before.contains($0) }
      #expect(partial.allSatisfy { $0.hasPrefix("a.piom.") && $0.hasSuffix(".partial") })
      #expect(unnamed ? partial.count <= 1 : partial.count == 1)
      try file.commit()
    }
    try write()
    try #expect(readFile(path) == [0, 0, 1, 2, 3])
    try #expect(entries(of: folder) == ["a.piom"])
  }
}

@Test(arguments: [true, false])
func aFileThatWasNotCommittedLeavesNothing(unnamed: Bool) throws {
  try withTemporaryFolder { folder in
    func write() throws {
      let file = try OutputFile(path: folder + "/a.piom", replacing: false, unnamed: unnamed)
      try file.write([1], at: 0)
    }
    try write()
    try #expect(entries(of: folder).isEmpty)
  }
}

@Test func whatAKilledProcessLeftIsRemovedAndNothingElse() throws {
  try withTemporaryFolder { folder in
    let long = String(repeating: "n", count: 250)
    let leftovers = ["a.piom.17.partial", "a.piom.17-3.partial"]
    let others = [
      "a.piom.partial", "a.piom.x.partial", "ab.piom.17.partial", "a.piom.17.part", "a.piom",
      ".17.partial",
    ]
    for name in leftovers + others { try Data([1]).write(to: file(folder, name)) }
    let shortened = String(repeating: "n", count: 244) + ".17.partial"
    try Data([1]).write(to: file(folder, shortened))
    do { _ = try OutputFile(path: folder + "/a.piom", replacing: true) }
    try #expect(entries(of: folder) == (others + [shortened]).sorted())
    do { _ = try OutputFile(path: folder + "/" + long, replacing: false) }
    try #expect(entries(of: folder) == others.sorted())
  }
}

@Test func anUnfinishedFileThatIsHeldStays() throws {
  try withTemporaryFolder { folder in
    var first = try OutputFile(path: folder + "/a.piom", replacing: true, unnamed: false)
    var second = try OutputFile(path: folder + "/a.piom", replacing: true, unnamed: false)
    try #expect(entries(of: folder).count == 2)
    try first.write([1], at: 0)
    try second.write([2], at: 0)
    try first.commit()
    try second.commit()
    try #expect(readFile(folder + "/a.piom") == [2])
    try #expect(entries(of: folder) == ["a.piom"])
  }
}

private func file(_ folder: String, _ name: String) -> URL {
  URL(fileURLWithPath: folder + "/" + name)
}

@Test(arguments: [true, false])
func aFileMadeByAnotherMeanwhileIsNotReplaced(unnamed: Bool) throws {
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    func write() throws {
      var file = try OutputFile(path: path, replacing: false, unnamed: unnamed)
      try file.write([1], at: 0)
      try Data([9]).write(to: URL(fileURLWithPath: path))
      try file.commit()
    }
    #expect(throws: ModelFileError.exists(path: path)) { try write() }
    try #expect(readFile(path) == [9])
    try #expect(entries(of: folder) == ["a.piom"])
  }
}

@Test(arguments: [
  ("", ENOENT), ("folder/new/", EISDIR), ("nowhere/a.piom", ENOENT), ("file/a.piom", ENOTDIR),
])
func refusesWhatCannotBeAName(name: String, code: Int32) throws {
  try withTemporaryFolder { folder in
    try FileManager.default.createDirectory(
      atPath: folder + "/folder", withIntermediateDirectories: false)
    try Data([9]).write(to: URL(fileURLWithPath: folder + "/file"))
    let path = name.isEmpty ? "" : "\(folder)/\(name)"
    for replacing in [true, false] {
      #expect(throws: ModelFileError.cannotWrite(path: path, errno: code)) {
        try OutputFile.check(path: path, replacing: replacing)
      }
    }
  }
}

@Test func refusesALinkToNothing() throws {
  try withTemporaryFolder { folder in
    let path = folder + "/a.piom"
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: "nothing")
    for replacing in [true, false] {
      #expect(throws: ModelFileError.notAFile(path: path)) {
        try OutputFile.check(path: path, replacing: replacing)
      }
    }
  }
}

/// 255 bytes leave no room for an ending, 256 are no name.
@Test(arguments: [true, false], [true, false])
func namesMayBeAsLongAsTheFileSystemAllows(unnamed: Bool, replacing: Bool) throws {
  try withTemporaryFolder { folder in
    let name = "n" + String(repeating: "é", count: 127)
    let path = "\(folder)/\(name)"
    if replacing { try Data([9]).write(to: URL(fileURLWithPath: path)) }
    func write() throws {
      var file = try OutputFile(path: path, replacing: replacing, unnamed: unnamed)
      try file.write([1], at: 0)
      try file.commit()
    }
    try write()
    try #expect(readFile(path) == [1])
    try #expect(entries(of: folder) == [name])
    #expect(throws: ModelFileError.cannotWrite(path: path + "n", errno: ENAMETOOLONG)) {
      try OutputFile.check(path: path + "n", replacing: replacing)
    }
  }
}
