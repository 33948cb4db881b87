import PIOBase
@testable import PIOEval
@testable import PIORuntime

/// The input: two bytes, a schedule or a method as one types them. What is accepted never gains tokens.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  guard count >= 2 else { return 0 }
  let layerCount = 1 + Int(input[0]) % 80
  let tokenCount = Int(input[1]) * 16
  let text = String(
    decoding: UnsafeBufferPointer(start: input + 2, count: count - 2), as: UTF8.self)
  do {
    check(try Schedule(parsing: text, layerCount: layerCount), tokenCount, layerCount)
  } catch {
    checkLine(error)
  }
  do {
    _ = try Variant(parsing: text, seed: 1)
  } catch {
    checkLine(error)
  }
  if let budget = Int(text), budget >= 0 {
    for rule in ScheduleRule.allCases {
      if let schedule = try? Schedule(
        averaging: budget, of: tokenCount, layerCount: layerCount, rule: rule)
      {
        check(schedule, tokenCount, layerCount)
      }
    }
  }
  return 0
}

private func check(_ schedule: Schedule, _ tokenCount: Int, _ layerCount: Int) {
  let tokens = schedule.tokens(tokenCount, layerCount: layerCount)
  precondition(tokens.count == layerCount)
  for (before, after) in zip(tokens, tokens.dropFirst()) { precondition(after <= before) }
  precondition(tokens.allSatisfy { $0 >= 0 && $0 <= tokenCount })
  let average = schedule.average(tokenCount, layerCount: layerCount)
  precondition(average >= 0 && average <= Double(tokenCount))
}
