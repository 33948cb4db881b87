import Foundation
import Testing

/// From decoded pixels and token ids to the bytes on stdout nothing asks the heap or the kernel for memory, on any
/// thread. Counted by a library that is preloaded into the tool, `Tests/AllocationCounter`, from the second picture on:
/// at the first one Swift's runtime makes the metadata of a generic type, once in the life of the process.
struct AllocationTests {
  private static let library = URL(fileURLWithPath: Tool.executable).deletingLastPathComponent()
    .appendingPathComponent("libAllocationCounter.so").path

  private struct Counts {
    let prefill: Int
    let decode: Int
    let writes: Int
  }

  private static let question = [
    "run", Tool.demo, "--image", Tool.picture("scene-0002-336x336.png"), "--image",
    Tool.picture("scene-0014-640x480.png"), "Describe the image.",
  ]

  private func count(_ arguments: [String]) throws -> Counts {
    let result = Tool.run(arguments, environment: ["LD_PRELOAD": Self.library])
    let line = try #require(
      result.error.split(separator: "\n").first { $0.hasPrefix("allocations:") },
      "\(result.status): \(result.error)")
    let numbers = line.split(separator: " ").compactMap { Int($0) }
    try #require(numbers.count == 3)
    return Counts(prefill: numbers[0], decode: numbers[1], writes: numbers[2])
  }

  @Test(arguments: [
    [], ["--kv", "int8"], ["--kv", "f32"], ["--threads", "1"], ["--threads", "3"],
    ["--schedule", "0:200,2:64"], ["--visual-tokens", "64", "--prune", "random"],
    ["--schedule", "2:64", "--positions", "compact"], ["--temperature", "0.7", "--top-p", "0.9"],
  ])
  func prefillAndDecodeAllocateNothing(_ options: [String]) throws {
    let counts = try count(Self.question + options)
    #expect(counts.prefill == 0, "\(options)")
    #expect(counts.decode == 0, "\(options)")
    #expect(counts.writes > 5, "\(options)")
  }

  @Test func theCounterCounts() throws {
    // Keeping the logits for the diagnostic file is an array between the picture and the first text.
    let path = Tool.scratch.appendingPathComponent("counted-logits.bin").path
    let counts = try count(Self.question + ["--dump-logits", path])
    #expect(counts.prefill > 0)
  }
}
