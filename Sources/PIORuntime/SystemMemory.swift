import PIOThreads

/// What memory this machine, and the control groups around this process, have for it.
public struct SystemMemory: Sendable {
  /// `MemTotal`: what exists; 0 where the kernel does not say.
  public let totalBytes: Int
  /// The smaller of `MemAvailable` and the limit of every control group that the process is in, version 1 or 2.
  public let availableBytes: Int
  /// The smallest of these groups' limits; nil: there is none.
  public let groupLimitBytes: Int?

  /// `root`: in front of every path that is read.
  public init(root: String = "") {
    let memory = lines(of: root + "/proc/meminfo")
    func field(_ name: String) -> Int? {
      memory.first { $0.hasPrefix(name) }
        .flatMap { $0.dropFirst(name.count).split(separator: " ").first }.flatMap { Int($0) }
        .map { $0 * 1024 }
    }
    totalBytes = field("MemTotal:") ?? 0
    groupLimitBytes = Self.groupLimits(root: root).min()
    let available = field("MemAvailable:") ?? totalBytes
    availableBytes = min(available, groupLimitBytes ?? available)
  }

  /// The limits of the process's own groups and of those around them.
  private static func groupLimits(root: String) -> [Int] {
    let mounts = lines(of: root + "/proc/self/mountinfo").compactMap(Mount.init)
    return lines(of: root + "/proc/self/cgroup").flatMap { line -> [Int] in
      // `5:memory:/user.slice` (version 1) or `0::/user.slice` (version 2).
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { return [] }
      let isUnified = parts[1].isEmpty
      guard isUnified || parts[1].split(separator: ",").contains("memory") else { return [] }
      let file = isUnified ? "memory.max" : "memory.limit_in_bytes"
      return mounts.filter { isUnified ? $0.isUnified : $0.isMemory }.flatMap { mount in
        mount.folders(of: String(parts[2])).compactMap { limit(root + $0 + "/" + file) }
      }
    }
  }

  /// A line of `/proc/self/mountinfo` that is a control group file system.
  private struct Mount {
    let group: String
    let point: String
    let isUnified: Bool
    let isMemory: Bool

    init?(_ line: String) {
      let halves = line.split(separator: " ").split(separator: "-", maxSplits: 1).map(Array.init)
      guard halves.count == 2, halves[0].count >= 5, let kind = halves[1].first else { return nil }
      group = String(halves[0][3])
      point = String(halves[0][4])
      isUnified = kind == "cgroup2"
      isMemory =
        kind == "cgroup" && (halves[1].last?.split(separator: ",").contains("memory") ?? false)
      guard isUnified || isMemory else { return nil }
    }

    /// The folders of `path` and of all groups around it. A container sees its own group as the mount's root.
    func folders(of path: String) -> [String] {
      var names = path.split(separator: "/").map(String.init)
      let above = group.split(separator: "/").map(String.init)
      if !above.isEmpty {
        names = names.starts(with: above) ? Array(names.dropFirst(above.count)) : []
      }
      return (0...names.count).map { ([point] + names[..<$0]).joined(separator: "/") }
    }
  }

  /// A limit in bytes; nil: none, or none that means anything.
  private static func limit(_ path: String) -> Int? {
    guard let value = lines(of: path).first.flatMap({ Int($0) }), value < 1 << 60 else {
      return nil
    }
    return value
  }
}
