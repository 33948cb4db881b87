import Glibc
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
    try room.checkCap()
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
    guard let string = String(validating: try bytes(path), as: UTF8.self) else {
      throw TextError.notUTF8(path: path)
    }
    return string
  }

  private func bytes(_ path: String) throws -> [UInt8] {
    // Without O_NONBLOCK, opening a pipe nobody writes to waits for ever.
    let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    guard descriptor >= 0 else { throw TextError.cannotRead(path: path, errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else {
      throw TextError.cannotRead(path: path, errno: errno)
    }
    guard status.st_mode & S_IFMT == S_IFREG else { throw TextError.notAFile(path: path) }
    guard status.st_size <= 64 << 20 else { throw TextError.tooLong(path: path) }
    var bytes = [UInt8](repeating: 0, count: Int(status.st_size))
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeMutableBytes {
        read(descriptor, $0.baseAddress! + done, $0.count - done)
      }
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw TextError.cannotRead(path: path, errno: errno) }
      if count == 0 { break }
      done += count
    }
    return Array(bytes[..<done])
  }
}

private enum TextError: Error, CustomStringConvertible {
  case cannotRead(path: String, errno: Int32)
  case notAFile(path: String)
  case tooLong(path: String)
  case notUTF8(path: String)
  case tooShort(path: String)

  var description: String {
    switch self {
    case .cannotRead(let path, let errno): "\(path): \(String(cString: strerror(errno)))"
    case .notAFile(let path): "\(path) is not a regular file"
    case .tooLong(let path): "\(path) has more than 64 MiB"
    case .notUTF8(let path): "\(path) is not UTF-8"
    case .tooShort(let path): "\(path) is too short: it has no token behind another"
    }
  }
}
