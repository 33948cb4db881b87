import Testing

@testable import PIOConvert

/// The vectors of FIPS 180-2, appendix B, and their neighbours around the block's end.
@Suite struct SHA256Tests {
  static func digest(_ bytes: [UInt8], chunk: Int = .max) -> String {
    var hash = SHA256()
    bytes.withUnsafeBytes { bytes in
      for start in stride(from: 0, to: bytes.count, by: min(chunk, max(bytes.count, 1))) {
        hash.update(UnsafeRawBufferPointer(rebasing: bytes[start...].prefix(chunk)))
      }
    }
    return hash.finish()
  }

  @Test(arguments: [
    ("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
      "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
      "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
    ),
  ])
  func givesThePublishedDigests(text: String, digest: String) {
    #expect(Self.digest(Array(text.utf8)) == digest)
  }

  @Test func digestsAMillionLetters() {
    let letters = [UInt8](repeating: UInt8(ascii: "a"), count: 1_000_000)
    let published = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"
    #expect(Self.digest(letters) == published)
  }

  @Test(arguments: [1, 3, 55, 56, 63, 64, 65, 127])
  func doesNotDependOnTheChunks(chunk: Int) {
    for count in 0..<200 {
      let bytes = (0..<count).map { UInt8(truncatingIfNeeded: 7 * $0) }
      #expect(Self.digest(bytes, chunk: chunk) == Self.digest(bytes))
    }
  }
}
