import ArgumentParser
import FoundationEssentials
import PIOFormat
import PIORuntime

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

struct EvalCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "eval",
    abstract: "Measure how well a model predicts a text.",
    discussion: """
      The perplexity of a text: exp of the mean of -log p of each token, given those before it in \
      the same window. Windows follow each other without overlap, each begins anew with what the \
      tokenizer puts in front of a text; a window's first token is not counted.

      Examples:
        pioedge eval model.piom --text book.txt
        pioedge eval model.piom --text book.txt --window 256 --compute f32 --json
      """)

  @Argument(help: ArgumentHelp("The .piom file.", valueName: "model"))
  var model: String

  @Option(help: ArgumentHelp("The text, UTF-8, at most 64 MiB.", valueName: "file"))
  var text: String

  @Option(help: "Tokens of a window.")
  var window = 512

  @OptionGroup(title: "Session") var session: SessionOptions

  @Flag(help: "One JSON object instead of text.")
  var json = false

  func validate() throws {
    guard (2...1 << 20).contains(window) else {
      throw ValidationError("--window is 2…1,048,576, not \(window).")
    }
    guard session.context == nil else {
      throw ValidationError("--window says how many rows there are, not --context.")
    }
  }

  func run() throws {
    do {
      let start = ContinuousClock.now
      let result = try measure()
      let elapsed = seconds(ContinuousClock.now - start)
      if json {
        try printOutput(
          jsonText(
            Result(
              perplexity: exp(result.mean), negativeLogLikelihood: result.mean,
              tokens: result.count, window: window, seconds: elapsed)))
      } else {
        try printOutput(
          "perplexity \(decimal(exp(result.mean), 4)) over \(result.count) tokens in windows of"
            + " \(window), \(decimal(elapsed, 1)) s")
      }
    } catch let error as ValidationError {
      throw error
    } catch let error as ExitCode {
      throw error
    } catch {
      throw fail(error)
    }
  }

  private struct Result: Encodable {
    let perplexity: Double
    let negativeLogLikelihood: Double
    let tokens: Int
    let window: Int
    let seconds: Double
  }

  private func measure() throws -> (mean: Double, count: Int) {
    let file = try ModelFile(path: model)
    var session = session
    session.context = window + 8  // and what the tokenizer puts in front
    let limits = try session.limits(
      for: file.config, images: 0, isChat: false, isConversation: true, seed: 0)
    var engine = try Engine(file, limits: limits)
    let tokens = engine.tokenizer.encode(try contents(), addSpecialTokens: false)
    let begin = engine.tokenizer.encode("", addSpecialTokens: true).prefix(8)
    var (sum, count, done) = (0.0, 0, 0)
    var line = ProgressLine()
    defer { line.clear() }
    while done < tokens.count {
      let chunk = tokens[done..<min(done + window, tokens.count)]
      for value in try engine.negativeLogLikelihoods(Array(begin) + Array(chunk)) {
        sum += value
        count += 1
      }
      done += chunk.count
      line.show("evaluating", done: done, of: tokens.count)
    }
    guard count > 0 else { throw EvalError.tooShort(path: text) }
    return (sum / Double(count), count)
  }

  private func contents() throws -> String {
    guard let data = try? Data(contentsOf: URL(fileURLWithPath: text)) else {
      throw EvalError.cannotRead(path: text)
    }
    guard data.count <= 64 << 20 else { throw EvalError.tooLong(path: text) }
    guard let string = String(validating: data, as: UTF8.self) else {
      throw EvalError.notUTF8(path: text)
    }
    return string
  }
}

private enum EvalError: Error, CustomStringConvertible {
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
