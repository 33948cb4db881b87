import Glibc

private let processorFolder = "/sys/devices/system/cpu"

/// How many threads to use unless told otherwise: the CPUs that are online and allowed to this
/// process, and where they differ only the big ones; no more than a control group's share of time
/// keeps busy, as a thread that is held up holds up all.
///
/// Big: `/sys/devices/system/cpu/cpuN/cpu_capacity` is at least three quarters of the largest (an RK3588's
/// small cores say 530, its big ones 1024). A CPU without the file counts as big.
public func defaultThreadCount() -> Int { defaultThreadCount(root: "") }

/// The same. `root`: where `/sys` and `/proc` are.
package func defaultThreadCount(root: String) -> Int {
  let count = bigProcessors(root: root).big.count
  return max(1, min(count, processorQuota(root: root) ?? count))
}

/// How many CPUs the control groups around this process may keep busy, rounded up: the least
/// `cpu.max`, quota through period, of its group and those above it. nil: as many as there are.
///
/// Source: Documentation/admin-guide/cgroup-v2.rst. The older hierarchy is not read.
package func processorQuota(root: String = "") -> Int? {
  let key = "0::/"
  guard let line = lines(of: "\(root)/proc/self/cgroup").first(where: { $0.hasPrefix(key) })
  else { return nil }
  // From outside its namespace a group begins with "..".
  var groups = line.dropFirst(key.count).split(separator: "/").filter { $0 != ".." }
  var least: Int?
  while true {
    let path = (["\(root)/sys/fs/cgroup"] + groups + ["cpu.max"]).joined(separator: "/")
    let numbers = (lines(of: path).first ?? "").split(separator: " ").map { Int($0) }
    if numbers.count == 2, let quota = numbers[0], let period = numbers[1], quota > 0, period > 0,
      quota < 1 << 40, period < 1 << 40
    {
      least = min(least ?? .max, (quota + period - 1) / period)
    }
    if groups.popLast() == nil { return least }
  }
}

/// The big ones of the available CPUs, and whether there are others. `root`: where `/sys` and `/proc` are.
package func bigProcessors(root: String = "") -> (big: [Int], isHeterogeneous: Bool) {
  let all = availableProcessors(root: root).map {
    (processor: $0, capacity: capacity(root: root, processor: $0))
  }
  let largest = all.compactMap(\.capacity).max() ?? 0
  let big = all.filter { ($0.capacity ?? largest) >= largest - largest / 4 }.map(\.processor)
  return (big, big.count < all.count)
}

/// The numbers of the CPUs that this process may run on and that are online.
///
/// `sched_getaffinity` is hidden from Swift (it wants `_GNU_SOURCE`); the kernel prints its mask in
/// `/proc/self/status`.
package func availableProcessors(root: String = "") -> [Int] {
  let key = "Cpus_allowed_list:"
  let status = lines(of: "\(root)/proc/self/status").first { $0.hasPrefix(key) }
  let allowed = processors(inList: String((status ?? "").dropFirst(key.count)))
  guard let list = lines(of: "\(root)\(processorFolder)/online").first else { return allowed }
  let online = Set(processors(inList: list))
  let both = allowed.filter(online.contains)
  return both.isEmpty ? allowed : both
}

/// The numbers in a list as the kernel writes it: `0-3,8`. What is not one is left out.
package func processors(inList list: String) -> [Int] {
  list.split(separator: ",").flatMap { part -> [Int] in
    let ends = part.split(separator: "-").map { Int($0.filter { $0.isASCII && $0.isNumber }) }
    guard let first = ends.first ?? nil, let last = ends.last ?? nil, first <= last, last < 4096
    else { return [] }
    return Array(first...last)
  }
}

/// The number in `cpuN/cpu_capacity`, nil where there is none.
private func capacity(root: String, processor: Int) -> Int? {
  guard let line = lines(of: "\(root)\(processorFolder)/cpu\(processor)/cpu_capacity").first,
    let value = Int(line), (0...1_000_000).contains(value)
  else { return nil }
  return value
}

/// The lines of a small file, without their ends; none where it cannot be read.
func lines(of path: String) -> [String] {
  guard let file = fopen(path, "re") else { return [] }
  defer { fclose(file) }
  var result: [String] = []
  var bytes = [CChar](repeating: 0, count: 4096)
  while fgets(&bytes, 4096, file) != nil, result.count < 1000 {
    let line = bytes.prefix { $0 != 0 && $0 != 10 }
    result.append(String(decoding: line.map(UInt8.init(bitPattern:)), as: UTF8.self))
  }
  return result
}
