import Foundation
import Testing

@testable import PIORuntime

struct ArenaTests {
  /// Where huge pages are on for everything, one touched byte would make 2 MiB resident, or 32.
  @Test func noByteBringsAHugePage() throws {
    guard FileManager.default.fileExists(atPath: "/sys/kernel/mm/transparent_hugepage/enabled")
    else { return }
    let arena = try Arena(byteCount: 64 << 20)
    let flags = try #require(Self.flags(of: UInt(bitPattern: arena.base)))
    #expect(flags.contains("nh"), "\(flags)")
  }

  /// `VmFlags` of the mapping that holds an address, as the kernel prints them.
  private static func flags(of address: UInt) -> [Substring]? {
    // A file without a size: read until it ends.
    guard let file = FileHandle(forReadingAtPath: "/proc/self/smaps") else { return nil }
    let text = String(decoding: file.readDataToEndOfFile(), as: UTF8.self)
    var isInside = false
    for line in text.split(separator: "\n") {
      let ends = line.prefix { $0 != " " }.split(separator: "-").map { UInt($0, radix: 16) }
      if ends.count == 2, let first = ends[0], let last = ends[1] {
        isInside = (first..<last).contains(address)
      } else if isInside, line.hasPrefix("VmFlags:") {
        return line.dropFirst("VmFlags:".count).split(separator: " ")
      }
    }
    return nil
  }
}
