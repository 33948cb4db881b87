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
