import PIOFormat
import Testing

@testable import PIORuntime

/// Limits are a caller's numbers: whatever they are, the answer is an error and no trap.
struct LimitsTests {
  private static let wrong: [(String, @Sendable (inout Limits) -> Void)] = [
    ("no thread", { $0.threadCount = 0 }),
    ("a negative thread", { $0.threadCount = -1 }),
    ("too many threads", { $0.threadCount = 257 }),
    ("one text row", { $0.contextRows = 1 }),
    ("negative text rows", { $0.contextRows = -7 }),
    ("all text rows", { $0.contextRows = .max }),
    ("negative images", { $0.imageCount = -1 }),
    ("all images", { $0.imageCount = .max }),
    ("no pixel", { $0.maxImagePixels = 0 }),
    ("all pixels", { $0.maxImagePixels = .max }),
    ("no codec memory", { $0.codecBytes = 0 }),
    ("negative codec memory", { $0.codecBytes = .min }),
    ("all codec memory", { $0.codecBytes = .max }),
    ("no memory", { $0.memoryCap = 0 }),
    ("negative memory", { $0.memoryCap = .min }),
  ]

  @Test(arguments: Self.wrong.indices)
  func refusesWhatIsOutOfRange(_ index: Int) {
    let (name, change) = Self.wrong[index]
    for model in [ModelShapes.tinyLlama, ModelShapes.textOnly] {
      var limits = Limits()
      change(&limits)
      #expect(throws: RuntimeError.self, "\(name)") {
        _ = try Plan(model, limits: limits, process: testProcess)
      }
    }
  }

  @Test func takesTheEndsOfEveryRange() throws {
    for end in [\ClosedRange<Int>.lowerBound, \.upperBound] {
      var limits = Limits()
      limits.codecBytes = [1 << 20, 1 << 30][end == \.lowerBound ? 0 : 1]
      limits.maxImagePixels = [1, 1 << 31][end == \.lowerBound ? 0 : 1]
      limits.threadCount = [1, 256][end == \.lowerBound ? 0 : 1]
      limits.memoryCap = [1, Int.max][end == \.lowerBound ? 0 : 1]
      let plan = try Plan(ModelShapes.tinyLlama, limits: limits, process: testProcess)
      #expect(plan.fits == (end == \.upperBound))
    }
  }
}
