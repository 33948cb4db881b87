import Foundation
import PIORuntime
import Testing

/// A session in somebody else's process changes nothing there.
struct HostTests {
  // One after the other: each looks at a handler that all share.
  @Test(.serialized, arguments: [Compute.auto, .f32])
  func aSessionLeavesItsHostAsItWas(_ compute: Compute) throws {
    let before = (environment: environment(), affinity: affinity())
    // Of whoever runs the tests; back again at the end.
    let handler = signal(SIGBUS, SIG_DFL)
    defer { signal(SIGBUS, handler) }
    let (golden, _) = try Golden.load("gqa-linear-sharded")
    let test = golden.cases[0]
    let path = try Files.model(golden.checkpoint, weights: .f32, vision: .f32)
    var session = try makeSession(path) { $0.compute = compute }
    let tokens = try session.rawTokens(test.prompt, isFirst: true)
    _ = try run(&session, tokens, images: test.imagePaths, count: 3)
    #expect(environment() == before.environment)
    #expect(affinity() == before.affinity)
    var action = sigaction()
    #expect(sigaction(SIGBUS, nil, &action) == 0)
    #expect(action.__sigaction_handler.sa_handler == nil, "a handler of SIGBUS was installed")
  }

  /// Variables that other tests do not touch.
  private func environment() -> [String: String] {
    ProcessInfo.processInfo.environment.filter { $0.key.contains("BLAS") || $0.key.contains("OMP") }
  }

  /// The CPUs of this thread, as the kernel prints them.
  private func affinity() -> Substring? {
    let status = try? String(contentsOfFile: "/proc/thread-self/status", encoding: .utf8)
    return status?.split(separator: "\n").first { $0.hasPrefix("Cpus_allowed_list:") }
  }
}
