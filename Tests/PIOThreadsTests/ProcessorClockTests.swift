import Foundation
import Testing

@testable import PIOThreads

struct ProcessorClockTests {
  /// A folder with `/proc` and `/sys` of a board, files of which a test changes.
  private final class System {
    let root = NSTemporaryDirectory() + "pio-clock-\(UUID())"

    init(capacities: [String?]) throws {
      let board = Board(
        testDescription: "", capacities: capacities, allowed: "0-\(capacities.count - 1)",
        big: [], isHeterogeneous: false)
      try board.write(root)
    }

    deinit { try? FileManager.default.removeItem(atPath: root) }

    func write(_ path: String, _ text: String) throws {
      let url = URL(fileURLWithPath: root + path)
      try FileManager.default.createDirectory(
        at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try "\(text)\n".write(to: url, atomically: true, encoding: .utf8)
    }

    func clock(_ processor: Int, _ current: String, of possible: String) throws {
      let folder = "/sys/devices/system/cpu/cpu\(processor)/cpufreq"
      try write("\(folder)/scaling_cur_freq", current)
      try write("\(folder)/cpuinfo_max_freq", possible)
    }

    func temperature(_ zone: Int, _ text: String) throws {
      try write("/sys/class/thermal/thermal_zone\(zone)/temp", text)
    }

    var sample: ProcessorClock? { ProcessorClock(root: root) }
  }

  @Test func aBoardThatGetsHotIsBelowFullSpeed() throws {
    let system = try System(capacities: [nil, nil])
    for processor in 0..<2 { try system.clock(processor, "2400000", of: "2400000") }
    try system.temperature(0, "61350")
    let cool = try #require(system.sample)
    #expect(!cool.isBelowFullSpeed && cool.lowestMHz == 2400 && cool.hottestCelsius == 61)
    for processor in 0..<2 { try system.clock(processor, "1500000", of: "2400000") }
    try system.temperature(1, "85200")
    let hot = try #require(system.sample)
    #expect(hot.isBelowFullSpeed && hot.lowestMHz == 1500 && hot.possibleMHz == 2400)
    for processor in 0..<2 { try system.clock(processor, "2400000", of: "2400000") }
    try system.temperature(1, "70000")
    let joined = cool.joined(with: hot).joined(with: try #require(system.sample))
    #expect(joined == hot && joined.hottestCelsius == 85)
  }

  /// What was asked for is not what the hardware does.
  @Test func theHardwaresOwnWordCounts() throws {
    let system = try System(capacities: [nil])
    try system.clock(0, "2400000", of: "2400000")
    try system.write("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_cur_freq", "1500398")
    let clock = try #require(system.sample)
    #expect(clock.lowestMHz == 1500 && clock.isBelowFullSpeed)
  }

  /// The small cores of an RK3588 and a big cluster with nothing to do say nothing.
  @Test func theFastestOfTheBigOnesCounts() throws {
    let system = try System(capacities: ["530", "1024", "1024"])
    try system.clock(0, "1800000", of: "1800000")
    try system.clock(1, "408000", of: "2400000")
    try system.clock(2, "2208000", of: "2256000")
    let clock = try #require(system.sample)
    #expect(clock.lowestMHz == 2208 && clock.possibleMHz == 2256 && !clock.isBelowFullSpeed)
    #expect(clock.hottestCelsius == nil)
  }

  @Test func whatIsNoFrequencyIsNone() throws {
    let system = try System(capacities: [nil])
    #expect(system.sample == nil)
    for text in ["", "fast", "-1", "0", "99999999999999999999"] {
      try system.clock(0, text, of: "2400000")
      #expect(system.sample == nil, "\(text)")
    }
    try system.clock(0, "2000000", of: "2400000")
    for text in ["hot", "-40000", "9999999"] {
      try system.temperature(0, text)
      #expect(try #require(system.sample).hottestCelsius == nil, "\(text)")
    }
  }
}
