import Foundation
import Testing

@testable import PIORuntime

/// What `releaseCode` takes out of memory, and what it must not.
@Suite(.serialized) struct ReleasedCodeTests {
  private static let byteCount = 64 << 10

  /// A file of ones, mapped to be executed as code is; `written`: after its first byte became a two.
  private func withMapping(
    written: Bool, _ body: (UnsafeMutablePointer<UInt8>) throws -> Void
  ) throws {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent(
      "code \(UUID().uuidString)"
    ).path
    try Data(repeating: 1, count: Self.byteCount).write(to: URL(fileURLWithPath: path))
    defer { unlink(path) }
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    let mapped = try #require(
      mmap(nil, Self.byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0))
    try #require(mapped != MAP_FAILED)
    defer { munmap(mapped, Self.byteCount) }
    let bytes = mapped.assumingMemoryBound(to: UInt8.self)
    if written { bytes[0] = 2 }
    try #require(mprotect(mapped, Self.byteCount, PROT_READ | PROT_EXEC) == 0)
    for at in stride(from: 0, to: Self.byteCount, by: 4096) { #expect(bytes[at] >= 1) }
    try body(bytes)
  }

  /// Pages of the mapping that this process has in memory: bit 63 of each entry in /proc/self/pagemap.
  private func residentPages(_ start: UnsafeMutablePointer<UInt8>) throws -> Int {
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    var entries = [UInt64](repeating: 0, count: Self.byteCount / page)
    let descriptor = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)
    defer { close(descriptor) }
    let count = pread(descriptor, &entries, 8 * entries.count, 8 * (Int(bitPattern: start) / page))
    try #require(count == 8 * entries.count)
    return entries.count { $0 >> 63 == 1 }
  }

  @Test func codeThatNobodyWroteGoesAndComesBack() throws {
    try withMapping(written: false) { bytes in
      let before = try residentPages(bytes)
      ProcessStatus.releaseCode()
      let after = try residentPages(bytes)
      #expect(before > 0 && after == 0, "\(before), \(after)")
      #expect(bytes[0] == 1 && bytes[Self.byteCount - 1] == 1)
    }
  }

  @Test func codeThatWasWrittenStays() throws {
    try withMapping(written: true) { bytes in
      ProcessStatus.releaseCode()
      #expect(bytes[0] == 2)
    }
  }
}
