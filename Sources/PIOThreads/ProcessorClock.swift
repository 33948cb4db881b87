/// How fast the big CPUs were running while something was measured, and how hot the chip was.
///
/// A small board without a fan slows down within a minute; figures taken then are the case's, not the
/// program's. `cpuinfo_cur_freq` is what the hardware says and root's alone to read; `scaling_cur_freq` may be
/// what was last asked for. Source: Documentation/admin-guide/pm/cpufreq.rst, ABI/testing/sysfs-class-thermal.
package struct ProcessorClock: Equatable, Sendable {
  /// MHz of the fastest CPU at its slowest sample, and what that CPU could run at.
  package private(set) var lowestMHz: Int
  package private(set) var possibleMHz: Int
  /// Of all zones and samples, in °C; nil: no zone says.
  package private(set) var hottestCelsius: Int?

  /// Below nine tenths of what is possible: hot, short of power, or told so; or all cores run, where one alone may
  /// run faster.
  package var isBelowFullSpeed: Bool { lowestMHz * 10 < possibleMHz * 9 }

  /// One sample; nil where the system names no frequencies, as virtual machines do. `root`: where `/sys` is.
  package init?(root: String = "") {
    let now = bigProcessors(root: root).big.compactMap { processor -> (mhz: Int, possible: Int)? in
      let folder = "\(root)/sys/devices/system/cpu/cpu\(processor)/cpufreq"
      let read = { (name: String) in number("\(folder)/\(name)", in: 1000...20_000_000) }
      guard let current = read("cpuinfo_cur_freq") ?? read("scaling_cur_freq"),
        let possible = read("cpuinfo_max_freq")
      else { return nil }
      return (current / 1000, possible / 1000)
    }
    // One that has nothing to do may idle slowly.
    guard let fastest = now.max(by: { $0.mhz * $1.possible < $1.mhz * $0.possible }) else {
      return nil
    }
    (lowestMHz, possibleMHz) = fastest
    hottestCelsius = (0..<64).compactMap { zone in
      number("\(root)/sys/class/thermal/thermal_zone\(zone)/temp", in: 1000...200_000)
    }.max().map { $0 / 1000 }
  }

  /// The slower of two samples, the hotter temperature.
  package func joined(with other: ProcessorClock) -> ProcessorClock {
    let isSlower = other.lowestMHz * possibleMHz < lowestMHz * other.possibleMHz
    var result = isSlower ? other : self
    result.hottestCelsius = [hottestCelsius, other.hottestCelsius].compactMap { $0 }.max()
    return result
  }
}

/// The number in a file of one line, where it is one of `range`.
private func number(_ path: String, in range: ClosedRange<Int>) -> Int? {
  guard let line = lines(of: path).first, let value = Int(line), range.contains(value) else {
    return nil
  }
  return value
}
