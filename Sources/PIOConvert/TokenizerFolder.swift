import Glibc

/// The small files of a checkpoint that say how it reads text.
struct TokenizerFolder {
  static let main = "tokenizer.json"
  static let limit = 1 << 28
  let path: String

  /// The parsed file, or nil where there is none.
  func json(_ name: String) throws(TokenizerConvertError) -> PieceJSON? {
    guard let bytes = try bytes(name) else { return nil }
    do {
      return try PieceJSON.parse(bytes)
    } catch {
      throw .badJSON(file: name, offset: error.offset)
    }
  }

  /// The checkpoint's Jinja text and the name of its file.
  func chatTemplate(
    _ config: PieceJSON?
  ) throws(TokenizerConvertError) -> (file: String, jinja: String)? {
    if let bytes = try bytes("chat_template.jinja") {
      return ("chat_template.jinja", String(decoding: bytes, as: UTF8.self))
    }
    for name in ["chat_template.json", "processor_config.json"] {
      if let text = try json(name)?.member("chat_template")?.string { return (name, text) }
    }
    guard let value = config?.member("chat_template") else { return nil }
    let name = "tokenizer_config.json"
    if let text = value.string { return (name, text) }
    // A list of named templates: the default one.
    let entry = value.array?.first { $0["name"]?.string == "default" }
    return entry?["template"]?.string.map { (name, $0) }
  }

  private func bytes(_ name: String) throws(TokenizerConvertError) -> [UInt8]? {
    // A pipe would keep the opening waiting for its other end.
    let descriptor = open(path + "/" + name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
    if descriptor < 0 && errno == ENOENT { return nil }
    guard descriptor >= 0 else { throw .cannotRead(file: name, errno: errno) }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw .cannotRead(file: name, errno: errno) }
    guard status.st_mode & S_IFMT == S_IFREG else { throw .notAFile(file: name) }
    var bytes: [UInt8] = []
    // A byte more than the file has, and its end comes with the first reading.
    let size = min(max(Int(status.st_size) + 1, 1 << 12), 1 << 16)
    var chunk = [UInt8](repeating: 0, count: size)
    while true {
      let count = read(descriptor, &chunk, chunk.count)
      if count < 0 && errno == EINTR { continue }
      guard count >= 0 else { throw .cannotRead(file: name, errno: errno) }
      if count == 0 { return bytes }
      bytes += chunk[..<count]
      guard bytes.count <= Self.limit else {
        throw .tooLarge(file: name, byteCount: bytes.count, limit: Self.limit)
      }
    }
  }
}
