/// What this machine's processor calls itself, to stand beside every figure measured on it.
public func processorName() -> String {
  processorName(
    information: lines(of: "/proc/cpuinfo"), board: lines(of: "/proc/device-tree/model").first)
}

/// From the lines of `/proc/cpuinfo` and the board's name where the firmware gives one.
///
/// x86: `AMD EPYC (family 25, model 17)`. ARM: `Raspberry Pi 5 Model B (4 × Cortex-A76)`.
package func processorName(information: [String], board: String?) -> String {
  func first(_ key: String) -> String? { values(of: key, in: information).first }
  if let name = first("model name"), let family = first("cpu family"), let model = first("model") {
    return "\(name) (family \(family), model \(model))"
  }
  let implementers = values(of: "CPU implementer", in: information)
  var kinds: [(name: String, count: Int)] = []
  for (implementer, part) in zip(implementers, values(of: "CPU part", in: information)) {
    let name = coreName(implementer: implementer, part: part)
    if let index = kinds.firstIndex(where: { $0.name == name }) {
      kinds[index].count += 1
    } else {
      kinds.append((name, 1))
    }
  }
  let cores = kinds.map { "\($0.count) × \($0.name)" }.joined(separator: " + ")
  // The device tree's strings end with a zero byte.
  let named = board ?? first("Model") ?? first("Hardware")
  guard let name = named?.filter({ $0 != "\0" }), !name.isEmpty else {
    return cores.isEmpty ? "unknown processor" : cores
  }
  return cores.isEmpty ? name : "\(name) (\(cores))"
}

private func values(of key: String, in information: [String]) -> [String] {
  information.compactMap { line in
    guard let colon = line.firstIndex(of: ":") else { return nil }
    guard trimmed(line[..<colon]) == key else { return nil }
    return trimmed(line[line.index(after: colon)...])
  }
}

private func trimmed(_ text: Substring) -> String {
  let isSpace = { (character: Character) in character == " " || character == "\t" }
  var rest = text.drop(while: isSpace)
  while let last = rest.last, isSpace(last) { rest.removeLast() }
  return String(rest)
}

/// Arm's own cores by MIDR_EL1's part number, from the cores' technical reference manuals.
private func coreName(implementer: String, part: String) -> String {
  let arm = [
    "0xd03": "Cortex-A53", "0xd04": "Cortex-A35", "0xd05": "Cortex-A55", "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72", "0xd09": "Cortex-A73", "0xd0a": "Cortex-A75", "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1", "0xd0d": "Cortex-A77", "0xd40": "Neoverse-V1", "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE", "0xd44": "Cortex-X1", "0xd46": "Cortex-A510", "0xd47": "Cortex-A710",
    "0xd48": "Cortex-X2", "0xd49": "Neoverse-N2", "0xd4d": "Cortex-A715", "0xd4f": "Neoverse-V2",
    "0xd80": "Cortex-A520", "0xd81": "Cortex-A720",
  ]
  let known = implementer == "0x41" ? arm[part] : nil
  return known ?? "core \(implementer)/\(part)"
}
