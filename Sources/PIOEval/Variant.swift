import PIOBase
import PIOFormat
import PIORuntime

/// A way to prune as `--prune` names it: a method, and what differs from its defaults.
///
/// `pio`, `pio:coverage=0.5`, `pio:positions=compact:nms-threshold=0.8`, or `published` for PIO as its authors'
/// code has it. The budget is not part of it.
public struct Variant: Equatable, Sendable {
  public let name: String
  public let pruning: Pruning

  public static let allNames =
    ["pio", "published"]
    + PruneMethod.allCases.filter { $0 != .pio && $0 != .none }.map(\.rawValue)

  public init(parsing text: String, seed: UInt64) throws(EvalError) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    var pruning = Pruning()
    if parts[0] == "published" {
      pruning = .published
    } else if let method = PruneMethod(rawValue: parts[0]), method != .none {
      pruning.method = method
    } else {
      throw .badVariant(
        text: text,
        problem: "unknown method; known are \(Self.allNames.joined(separator: ", ")), all")
    }
    pruning.seed = seed
    for part in parts.dropFirst() {
      guard Self.set(part, &pruning) else {
        throw .badVariant(
          text: text, problem: "'\(part.shortened)' is not a valid option of a method")
      }
    }
    name = text
    self.pruning = pruning
  }

  /// Several with commas between; `all`: every method that the model has.
  public static func list(
    _ text: String, seed: UInt64, of model: ModelConfig? = nil
  ) throws(EvalError) -> [Variant] {
    var found: [Variant] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      for name in part == "all" ? allNames : [String(part)] {
        let variant = try Variant(parsing: name, seed: seed)
        if part == "all", let model, !model.allows(variant.pruning) { continue }
        if !found.contains(where: { $0.name == name }) { found.append(variant) }
      }
    }
    return found
  }

  private static func set(_ option: String, _ pruning: inout Pruning) -> Bool {
    let sides = option.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
    guard sides.count == 2 else { return false }
    let value = String(sides[1])
    switch sides[0] {
    case "positions": return store(PrunedPositions(rawValue: value), in: &pruning.positions)
    case "proxy-rows": return store(ProxyRows(rawValue: value), in: &pruning.proxyRows)
    case "proxy-block": return store(ProxyBlock(rawValue: value), in: &pruning.proxyBlock)
    case "nms-threshold": return store(number(value, in: -1...2), in: &pruning.nmsThreshold)
    case "coverage": return store(number(value, in: 0...1), in: &pruning.coverage)
    case "entry": return store(EntrySelection(rawValue: value), in: &pruning.entry)
    case "patch-score": return store(PatchScore(rawValue: value), in: &pruning.patchScore)
    case "seed": return store(UInt64(value), in: &pruning.seed)
    default: return false
    }
  }

  private static func number(_ text: String, in range: ClosedRange<Float>) -> Float? {
    Float(text).flatMap { range.contains($0) ? $0 : nil }
  }

  /// Returns whether there is a value.
  private static func store<Value>(_ value: Value?, in target: inout Value) -> Bool {
    guard let value else { return false }
    target = value
    return true
  }
}
