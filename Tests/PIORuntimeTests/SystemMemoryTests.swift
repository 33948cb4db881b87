import Foundation
import Testing

@testable import PIORuntime

struct SystemMemoryTests {
  /// A machine of files.
  private func machine(_ files: [String: String]) throws -> SystemMemory {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent(
      "pioedge-machine-\(UUID().uuidString)")
    defer { try? FileManager.default.removeItem(at: root) }
    for (path, text) in files {
      let url = root.appendingPathComponent(path)
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try text.write(to: url, atomically: false, encoding: .utf8)
    }
    return SystemMemory(root: root.path)
  }

  private let memory = "MemTotal:        8000000 kB\nMemFree: 5 kB\nMemAvailable:    6000000 kB\n"

  @Test func withoutGroupsItIsWhatTheKernelCallsAvailable() throws {
    let system = try machine(["proc/meminfo": memory])
    #expect(system.totalBytes == 8_000_000 * 1024)
    #expect(system.availableBytes == 6_000_000 * 1024)
    #expect(system.groupLimitBytes == nil)
  }

  @Test func everyGroupAboveCounts() throws {
    let system = try machine([
      "proc/meminfo": memory, "proc/self/cgroup": "0::/user.slice/app.scope\n",
      "proc/self/mountinfo":
        "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
      "sys/fs/cgroup/user.slice/memory.max": "734003200\n",
      "sys/fs/cgroup/user.slice/app.scope/memory.max": "max\n",
    ])
    #expect(system.groupLimitBytes == 734_003_200)
    #expect(system.availableBytes == 734_003_200)
  }

  @Test func versionOneHasItsOwnTree() throws {
    let system = try machine([
      "proc/meminfo": memory,
      "proc/self/cgroup": "4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/\n",
      "proc/self/mountinfo": """
      31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
      32 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct

      """,
      "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
      "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "314572800\n",
      "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "524288000\n",
      "sys/fs/cgroup/cpu/c/memory.limit_in_bytes": "4096\n",
    ])
    #expect(system.groupLimitBytes == 314_572_800)
  }

  @Test func aContainerSeesItsGroupAsTheRoot() throws {
    let system = try machine([
      "proc/meminfo": memory, "proc/self/cgroup": "0::/docker/1234\n",
      "proc/self/mountinfo": "30 23 0:26 /docker/1234 /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
      "sys/fs/cgroup/memory.max": "268435456\n",
    ])
    #expect(system.availableBytes == 268_435_456)
  }

  @Test func garbageIsNoLimit() throws {
    let system = try machine([
      "proc/meminfo": memory, "proc/self/cgroup": "::::\nx\n0::/a/../..\n",
      "proc/self/mountinfo": "- - -\n30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
      "sys/fs/cgroup/a/memory.max": "lots\n",
    ])
    #expect(system.groupLimitBytes == nil)
  }
}
