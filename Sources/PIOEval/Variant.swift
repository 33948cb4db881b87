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
        text: text, problem: "no method: \(Self.allNames.joined(separator: ", ")), all")
    }
    pruning.seed = seed
    for part in parts.dropFirst() {
      guard Self.set(part, &pruning) else {
        throw .badVariant(text: text, problem: "'\(part)' is no option of a method")
      }
    }
    name = text
    self.pruning = pruning
  }

  /// Several with commas between; `all`: every method.
  public static func list(_ text: String, seed: UInt64) throws(EvalError) -> [Variant] {
    var found: [Variant] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      for name in part == "all" ? allNames : [String(part)] {
        let variant = try Variant(parsing: name, seed: seed)
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
    case "positions":
      guard let positions = PrunedPositions(rawValue: value) else { return false }
      pruning.positions = positions
    case "proxy-rows":
      guard let rows = ProxyRows(rawValue: value) else { return false }
      pruning.proxyRows = rows
    case "proxy-block":
      guard let block = ProxyBlock(rawValue: value) else { return false }
      pruning.proxyBlock = block
    case "nms-threshold":
      guard let threshold = Float(value), threshold >= -1, threshold <= 2 else { return false }
      pruning.nmsThreshold = threshold
    case "coverage":
      guard let part = Float(value), part >= 0, part <= 1 else { return false }
      pruning.coverage = part
    case "entry":
      guard let entry = EntrySelection(rawValue: value) else { return false }
      pruning.entry = entry
    case "patch-score":
      guard let score = PatchScore(rawValue: value) else { return false }
      pruning.patchScore = score
    case "seed":
      guard let seed = UInt64(value) else { return false }
      pruning.seed = seed
    default: return false
    }
    return true
  }
}
