import Foundation
import Testing

@testable import PIOFormat

struct FilePagesTests {
  private static let count = 1_000_003

  /// A file of a million bytes that are not zero.
  private func withFile(_ body: (String) throws -> Void) throws {
    try withTemporaryFolder { folder in
      let path = folder + "/pages"
      let bytes = Data((0..<Self.count).map { UInt8(truncatingIfNeeded: $0 % 251 + 1) })
      try bytes.write(to: URL(fileURLWithPath: path))
      let descriptor = open(path, O_RDONLY)
      fsync(descriptor)
      close(descriptor)
      try body(path)
    }
  }

  /// KiB of the mapping at `start` that are mapped into this process.
  private func resident(_ start: UnsafeRawPointer) throws -> Int {
    let file = try #require(FileHandle(forReadingAtPath: "/proc/self/smaps"))
    let text = String(decoding: file.readDataToEndOfFile(), as: UTF8.self)
    var isInside = false
    for line in text.split(separator: "\n") {
      let first = line.split(separator: " ").first ?? ""
      let ends = first.split(separator: "-").compactMap { UInt($0, radix: 16) }
      if ends.count == 2 { isInside = ends[0] == UInt(bitPattern: start) }
      if isInside, line.hasPrefix("Rss:") {
        return Int(line.split(separator: " ")[1]) ?? -1
      }
    }
    return -1
  }

  @Test(arguments: [FilePages.Method.populate, .touch])
  func bringsInAndDrops(_ method: FilePages.Method) throws {
    try withFile { path in
      let file = try MappedFile(path: path)
      let start = file.bytes.baseAddress!
      #expect(try resident(start) == 0)
      #expect(file.pages.populate(0..<Self.count, method) == 0)
      #expect(try resident(start) * 1024 >= Self.count)
      file.pages.drop(0..<Self.count, fromCache: true)
      #expect(try resident(start) == 0)
      // Elsewhere a page may stay that somebody else has in hand.
      #expect(file.pages.cachedByteCount(0..<Self.count) < Self.count / 4)
      #expect(file.pages.populate(300_000..<400_000, method) == 0)
      let part = try resident(start)
      #expect(part >= 97 && part < 97 + 2 * 64 + 64)
      #expect(file.bytes[399_999] == UInt8(399_999 % 251 + 1))
    }
  }

  /// System calls want the first byte of a range on a page, whatever the machine's pages are.
  @Test(arguments: [4 << 10, 16 << 10, 64 << 10])
  func rangesAreWidenedToWholePages(_ page: Int) {
    let count = 5 * page + 77
    for range in [0..<1, 1..<page, page - 1..<page + 1, page..<2 * page, 4 * page..<count + 9] {
      let whole = wholePages(range, pageByteCount: page, of: count)!
      #expect(whole.lowerBound % page == 0 && whole.lowerBound <= range.lowerBound)
      #expect(range.lowerBound - whole.lowerBound < page)
      #expect(whole.upperBound == count || whole.upperBound % page == 0)
      #expect(whole.upperBound >= min(count, range.upperBound))
      #expect(whole.upperBound - range.upperBound < page)
    }
    #expect(wholePages(3..<3, pageByteCount: page, of: count) == 0..<page)
    #expect(wholePages(0..<0, pageByteCount: page, of: count) == nil)
    #expect(wholePages(count + page..<count + 2 * page, pageByteCount: page, of: count) == nil)
  }

  /// As a kernel with larger pages would: what is brought in and dropped starts and ends on its pages.
  @Test(arguments: [4 << 10, 16 << 10, 64 << 10], [FilePages.Method.populate, .touch])
  func largerPagesComeAndGoWhole(_ page: Int, _ method: FilePages.Method) throws {
    guard page >= FilePages.pageByteCount else { return }
    try withFile { path in
      let file = try MappedFile(path: path)
      let start = file.bytes.baseAddress!
      let pages = file.pages(ofByteCount: page)
      #expect(pages.populate(0..<Self.count, method) == 0)
      pages.drop(300_000..<400_000, fromCache: false)
      let dropped = wholePages(300_000..<400_000, pageByteCount: page, of: Self.count)!
      let mapped = (Self.count + 1023) / 1024
      let left = try resident(start)
      #expect(left <= mapped + FilePages.pageByteCount / 1024 - dropped.count / 1024)
      #expect(pages.populate(399_999..<400_000, method) == 0)
      #expect(pages.populate(300_000..<300_001, method) == 0)
      #expect((0..<Self.count).allSatisfy { file.bytes[$0] == UInt8($0 % 251 + 1) })
    }
  }

  @Test func readsWithoutMapping() throws {
    try withFile { path in
      let file = try MappedFile(path: path)
      var bytes = [UInt8](repeating: 0, count: 7000)
      let status = bytes.withUnsafeMutableBytes { file.pages.read(into: $0, at: 123_457) }
      #expect(status == 0)
      #expect(bytes.indices.allSatisfy { bytes[$0] == UInt8((123_457 + $0) % 251 + 1) })
      #expect(try resident(file.bytes.baseAddress!) == 0)
    }
  }

  @Test(arguments: [FilePages.Method.populate, .touch])
  func aFileThatWasCutShortIsAnError(_ method: FilePages.Method) throws {
    try withFile { path in
      let file = try MappedFile(path: path)
      #expect(truncate(path, 500_000) == 0)
      #expect(file.pages.populate(0..<Self.count, method) == EFAULT)
      var bytes = [UInt8](repeating: 0, count: 100)
      let status = bytes.withUnsafeMutableBytes { file.pages.read(into: $0, at: 499_950) }
      #expect(status == EFAULT)
    }
  }

  @Test func checkingAFileTakesLittleMemory() throws {
    try withTemporaryFolder { folder in
      try Sample(seed: 3).write(to: folder + "/a.piom")
      let file = try ModelFile(path: folder + "/a.piom")
      try file.verify()
      let start = file.data(0).baseAddress! - file.tensors[0].offset
      // Of the tensors nothing is left but pages that a fault brought in around the last piece.
      let left = try resident(start) * 1024
      #expect(left >= 0 && left <= file.frontByteCount + 128 << 10, "\(left) of \(file.byteCount)")
    }
  }
}
