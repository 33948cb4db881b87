#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

private let processorFolder = "/sys/devices/system/cpu"

/// How many threads to use unless told otherwise: the CPUs that are online and allowed to this
/// process, and where they differ only the big ones.
///
/// Big: `/sys/devices/system/cpu/cpuN/cpu_capacity` is at least three quarters of the largest (an RK3588's
/// small cores say 530, its big ones 1024). A CPU without the file counts as big.
public func defaultThreadCount() -> Int {
  max(1, bigProcessors().big.count)
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
