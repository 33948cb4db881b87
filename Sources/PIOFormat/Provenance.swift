/// Where a model file comes from. Nothing in it depends on the machine or the time.
public struct Provenance: Equatable, Sendable {
  /// A file of the checkpoint and its digest.
  public struct SourceFile: Equatable, Sendable {
    /// The file's name, without a folder.
    public var name: String
    /// SHA-256, 64 lower-case hexadecimal digits.
    public var sha256: String

    public init(name: String, sha256: String) {
      self.name = name
      self.sha256 = sha256
    }
  }

  /// The program that wrote the file, and its version.
  public var converter: String
  /// What was asked of it: `--weights int4 --group 32`.
  public var recipe: String
  public var sources: [SourceFile]

  public init(converter: String, recipe: String, sources: [SourceFile]) {
    self.converter = converter
    self.recipe = recipe
    self.sources = sources
  }

  /// Throws where a text is too long or holds control characters.
  public func validate() throws(ModelFileError) {
    try checkLine("provenance.converter", converter, limit: 256)
    try checkLine("provenance.recipe", recipe, limit: 4096)
    try check("provenance.sources", sources.count, 0...4096)
    for source in sources {
      try checkLine("provenance.source.name", source.name, limit: 256)
      guard source.sha256.utf8.count == 64, source.sha256.utf8.allSatisfy(isHexDigit) else {
        throw .outOfBounds(
          field: "provenance.source.sha256", found: "\(source.sha256.utf8.count) bytes",
          allowed: "64 hexadecimal digits")
      }
    }
  }

  private func checkLine(_ field: String, _ line: String, limit: Int) throws(ModelFileError) {
    try check(field + " (bytes)", line.utf8.count, 0...limit)
    // These texts are printed on terminals.
    guard line.unicodeScalars.allSatisfy({ !isControl($0) }) else {
      throw .outOfBounds(field: field, found: "a control character", allowed: "one line of text")
    }
  }
}

private func isHexDigit(_ byte: UInt8) -> Bool {
  (48...57).contains(byte) || (97...102).contains(byte)
}

/// C0, DEL, C1.
func isControl(_ scalar: Unicode.Scalar) -> Bool {
  scalar.value < 32 || (127...159).contains(scalar.value)
}
