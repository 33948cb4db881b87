import PIOFormat
import Testing

@testable import PIOConvert

@Suite struct EncodingTests {
  private func rules(_ keep: [String], weights: TensorKind = .int4) -> EncodingRules {
    EncodingRules(weights: weights, keep: keep.map { KeepRule($0)! })
  }

  private func kinds(_ rules: EncodingRules) throws -> [String: TensorKind] {
    let folder = try TemporaryFolder()
    var dry = ConvertOptions(
      source: golden("seven-heads-nested"), target: folder.path + "/model.piom", rules: rules,
      threadCount: 2)
    dry.isDryRun = true
    let report = try convert(dry)
    return Dictionary(
      uniqueKeysWithValues: report.tensors.map { ($0.entry.spec.name, $0.entry.encoding.kind) })
  }

  @Test func theLastKeepThatFitsDecides() throws {
    let kinds = try kinds(
      rules(["text.layers.*=int8", "*.0.attention.*=f16", "text.embedding=bf16"]))
    #expect(kinds["text.layers.1.mlp.up.weight"] == .int8)
    #expect(kinds["text.layers.0.attention.key.weight"] == .f16)
    #expect(kinds["vision.layers.0.attention.key.weight"] == .f16)
    #expect(kinds["text.embedding"] == .bf16)
    #expect(kinds["text.layers.0.mlp.up.bias"] == .f32)
    #expect(kinds["text.head.weight"] == .int8)
  }

  @Test(arguments: [
    (["text.layer.*=int8"], "no weight matrix matches")
  ])
  func refusesRulesThatCannotHold(keep: [String], message: String) throws {
    do {
      _ = try kinds(rules(keep))
      Issue.record("accepted")
    } catch {
      #expect("\(error)".contains(message), "\(error)")
    }
  }

  @Test(arguments: [
    ("*", "", true), ("*", "abc", true), ("a*c", "abc", true), ("a*c", "abd", false),
    ("*b*", "abc", true), ("a*b*c", "aXbXbc", true), ("abc", "abcd", false), ("", "a", false),
    ("a**", "a", true), ("*a", "aab", false), ("*ab", "aab", true),
  ])
  func globsMatch(pattern: String, name: String, fits: Bool) {
    #expect(KeepRule(pattern: pattern, kind: .f32).matches(name) == fits)
  }

  @Test(arguments: ["", "=f32", "a=", "a=int2", "a", "a b=f32", "é=f32"])
  func refusesWhatIsNoKeepRule(text: String) {
    #expect(KeepRule(text) == nil)
  }
}
