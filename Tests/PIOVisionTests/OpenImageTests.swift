import Foundation
import PIOVision
import Testing

/// A file of its own that goes when the test ends.
private final class CopiedImage {
  let path: String

  init(of name: String) throws {
    path =
      FileManager.default.temporaryDirectory.appendingPathComponent(
        "pioedge-open-\(UUID().uuidString)"
      ).path
    try GoldenImages.bytes(of: name).write(to: URL(fileURLWithPath: path))
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// Another file of the same name.
  func replace(with name: String) throws {
    try GoldenImages.bytes(of: name).write(to: URL(fileURLWithPath: path), options: .atomic)
  }

  /// The same file with other bytes.
  func overwrite(with name: String) throws {
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
    try file.truncate(atOffset: 0)
    try file.write(contentsOf: GoldenImages.bytes(of: name))
    try file.close()
  }
}

@Suite struct OpenImageTests {
  private let preparation = ImagePreparation(side: 28, patchSize: 14)

  @Test(arguments: [("baseline.jpg", "progressive.jpg"), ("small.png", "tall.png")])
  func anImageReplacedWhileItIsOpenIsDecodedAsItWas(_ name: String, _ other: String) throws {
    let file = try CopiedImage(of: name)
    let image = try OpenImage(path: file.path)
    let info = image.info
    try file.replace(with: other)
    let found = try prepared(preparation, image)
    let expected = try prepared(path: GoldenImages.path(name), preparation)
    #expect(found.patches == expected.patches)
    #expect(found.info == info && expected.info == info)
  }

  @Test(arguments: [
    ("baseline.jpg", "tall.png"), ("small.png", "tall.png"), ("small.png", "baseline.jpg"),
  ])
  func anImageOfAnotherSizeWrittenIntoTheOpenFileIsRefused(_ name: String, _ other: String) throws {
    let file = try CopiedImage(of: name)
    let image = try OpenImage(path: file.path)
    try file.overwrite(with: other)
    #expect(
      throws: ImageError.damaged(path: file.path, message: "the file was changed while it was open")
    ) {
      try prepared(preparation, image)
    }
  }

  @Test func anImageIsDecodedOnceAndItsFileClosed() throws {
    let file = try CopiedImage(of: "baseline.jpg")
    let image = try OpenImage(path: file.path)
    #expect(try openCount(file) == 1)
    _ = try prepared(preparation, image)
    #expect(try openCount(file) == 0)
    #expect(throws: ImageError.damaged(path: image.name, message: "already decoded")) {
      try prepared(preparation, image)
    }
  }

  /// Descriptors of this process that are the file.
  private func openCount(_ file: CopiedImage) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { name in
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)"))
        == file.path
    }
  }
}
