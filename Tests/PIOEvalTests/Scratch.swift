import Foundation

/// A folder of this test run.
enum Scratch {
  static let folder: URL = {
    let folder = FileManager.default.temporaryDirectory.appendingPathComponent(
      "pioedge-eval-tests-\(getpid())")
    try! FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    atexit { try? FileManager.default.removeItem(at: Scratch.folder) }
    return folder
  }()

  /// A new file with this text.
  static func file(_ text: String) -> String {
    let url = folder.appendingPathComponent(UUID().uuidString)
    try! Data(text.utf8).write(to: url)
    return url.path
  }

  static func text(_ path: String) -> String {
    String(decoding: try! Data(contentsOf: URL(fileURLWithPath: path)), as: UTF8.self)
  }
}
