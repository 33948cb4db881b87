import PIOFormat

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#endif

/// Whether `path` is something to convert: a folder, or a file that begins as GGUF files do.
public func isConvertible(_ path: String) -> Bool {
  var status = stat()
  guard stat(path, &status) == 0 else { return false }
  if status.st_mode & S_IFMT == S_IFDIR { return true }
  // Without O_NONBLOCK, opening a pipe nobody writes to waits for ever.
  let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
  guard descriptor >= 0 else { return false }
  defer { close(descriptor) }
  let magic = GGUFHeader.magic
  var front = [UInt8](repeating: 0, count: magic.count)
  return read(descriptor, &front, front.count) == front.count && front == magic
}

/// The file that a conversion would write, with everything but the numbers of its weights.
public struct PlannedModel: Sendable {
  public let config: ModelConfig
  public let layout: ModelLayout
  /// The bytes of the tokenizer section.
  public let tokenizer: [UInt8]

  /// Checks what `convert` checks before it writes; `options.target` is not looked at.
  ///
  /// Reads headers and the tokenizer, no weights. Throws what `convert` would throw.
  public init(_ options: ConvertOptions) throws(ConvertError) {
    let plan = try ConversionPlan(options)
    config = plan.source.config
    layout = plan.layout
    tokenizer = plan.source.tokenizer
  }
}
