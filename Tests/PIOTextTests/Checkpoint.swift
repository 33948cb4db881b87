import Foundation
import PIOConvert

/// A folder with a tiny tokenizer, removed with the value; `change` edits its `tokenizer.json`.
final class Checkpoint {
  let folder: URL

  init(
    jinja: String? = nil, config: String? = nil,
    change: (inout [String: Any]) -> Void = { _ in }
  ) throws {
    folder = FileManager.default.temporaryDirectory.appendingPathComponent(UUID().uuidString)
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    var json: [String: Any] = [
      "added_tokens": [] as [Any],
      "pre_tokenizer": ["type": "ByteLevel", "add_prefix_space": false, "use_regex": true],
      "decoder": ["type": "ByteLevel"],
      "model": [
        "type": "BPE", "vocab": ["a": 0, "b": 1, "ab": 2], "merges": [["a", "b"]],
      ] as [String: Any],
    ]
    change(&json)
    try JSONSerialization.data(withJSONObject: json)
      .write(to: folder.appendingPathComponent("tokenizer.json"))
    if let jinja { try write(jinja, "chat_template.jinja") }
    if let config { try write(config, "tokenizer_config.json") }
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  func write(_ text: String, _ name: String) throws {
    try Data(text.utf8).write(to: folder.appendingPathComponent(name))
  }

  func read(
    chatTemplate: String? = "plain", vocabSize: Int = 16, imageTokenID: Int? = nil
  ) throws(TokenizerConvertError) -> ConvertedTokenizer {
    try readTokenizer(
      folder: folder.path, chatTemplate: chatTemplate, vocabSize: vocabSize,
      imageTokenID: imageTokenID)
  }
}
