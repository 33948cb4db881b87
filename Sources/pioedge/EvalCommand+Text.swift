import Glibc
import FoundationEssentials
import PIOFormat
import PIORuntime

/// How well the model predicts a text.
extension EvalCommand {
  private struct Result: Encodable {
    let perplexity: Double
    let negativeLogLikelihood: Double
    let tokens: Int
    let window: Int
    let seconds: Double
  }

  private var windowTokens: Int { window ?? 512 }

  func evaluateText(_ path: String) throws {
    let start = ContinuousClock.now
    let result = try measure(path)
    let elapsed = seconds(ContinuousClock.now - start)
    if json {
      try printOutput(
        jsonText(
          Result(
            perplexity: exp(result.mean), negativeLogLikelihood: result.mean,
            tokens: result.count, window: windowTokens, seconds: elapsed)))
    } else {
      try printOutput(
        "perplexity \(decimal(exp(result.mean), 4)) over \(result.count) tokens in windows of"
          + " \(windowTokens), \(decimal(elapsed, 1)) s")
    }
  }

  private func measure(_ path: String) throws -> (mean: Double, count: Int) {
    let file = try room.open(model)
    var room = room
    room.context = windowTokens + 8  // and what the tokenizer puts in front
    // An image's rows are planned, as in any session with the model.
    let limits = room.limits(for: file.config, imageCount: 1, isConversation: true)
    let runtime = try Runtime(file, limits: limits, host: host)
    let slot = try runtime.begin()
    let tokens = runtime.tokenizer.encode(try contents(path), addSpecialTokens: false)
    let begin = runtime.tokenizer.encode("", addSpecialTokens: true).prefix(8)
    var (sum, count, done) = (0.0, 0, 0)
    var line = ProgressLine()
    defer { line.clear() }
    while done < tokens.count {
      let chunk = tokens[done..<min(done + windowTokens, tokens.count)]
      for value in try runtime.negativeLogLikelihoods(
        of: Array(begin) + Array(chunk), in: slot)
      {
        sum += value
        count += 1
      }
      done += chunk.count
      line.show("evaluating", done: done, of: tokens.count)
    }
    guard count > 0 else { throw TextError.tooShort(path: path) }
    return (sum / Double(count), count)
  }

  private func contents(_ path: String) throws -> String {
    guard let data = try? Data(contentsOf: URL(fileURLWithPath: path)) else {
      throw TextError.cannotRead(path: path)
    }
    guard data.count <= 64 << 20 else { throw TextError.tooLong(path: path) }
    guard let string = String(validating: data, as: UTF8.self) else {
      throw TextError.notUTF8(path: path)
    }
    return string
  }
}

private enum TextError: Error, CustomStringConvertible {
  case cannotRead(path: String)
  case tooLong(path: String)
  case notUTF8(path: String)
  case tooShort(path: String)

  var description: String {
    switch self {
    case .cannotRead(let path): "\(path) cannot be read"
    case .tooLong(let path): "\(path) has more than 64 MiB"
    case .notUTF8(let path): "\(path) is not UTF-8"
    case .tooShort(let path): "\(path) has too few tokens to predict one of another"
    }
  }
}
