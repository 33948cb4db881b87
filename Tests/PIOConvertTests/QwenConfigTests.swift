import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

/// Configurations of the Qwen-VL families: what they leave out, and what is close but different.
struct QwenConfigTests {
  private func object(_ path: String) throws -> [String: Any] {
    let data = try #require(FileManager.default.contents(atPath: path))
    return try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
  }

  /// Sets `a.b.c`, or takes it away.
  private func set(_ object: inout [String: Any], _ path: [Substring], _ value: Any?) {
    guard path.count > 1 else { return object[String(path[0])] = value }
    var inner = object[String(path[0])] as? [String: Any] ?? [:]
    set(&inner, Array(path.dropFirst()), value)
    object[String(path[0])] = inner
  }

  /// The configuration of a golden checkpoint with some of its keys changed; nil takes one away.
  private func read(
    _ name: String, _ changes: [String: Any?] = [:], processor: [String: Any?] = [:]
  ) throws -> CheckpointConfig {
    let folder = try TemporaryFolder()
    for (file, changes) in [("config", changes), ("preprocessor_config", processor)] {
      var root = try object("\(golden(name))/\(file).json")
      for (path, value) in changes { set(&root, path.split(separator: "."), value) }
      try JSONSerialization.data(withJSONObject: root)
        .write(to: URL(fileURLWithPath: "\(folder.path)/\(file).json"))
    }
    return try CheckpointConfig(folder: folder.path)
  }

  private func refusal(
    _ name: String, _ changes: [String: Any?] = [:], processor: [String: Any?] = [:]
  ) -> String {
    do {
      _ = try read(name, changes, processor: processor)
      return "accepted"
    } catch {
      return "\(error)"
    }
  }

  @Test(arguments: [
    ("rope_parameters.mrope_interleaved", "false", "mrope_interleaved false"),
    ("rope_parameters.mrope_section", "[4, 2, 3]", "does not add up to half of a head, 8"),
    ("rope_parameters.mrope_section", "[4, 4]", "is not three whole numbers"),
    ("rope_parameters.rope_type", "\"yarn\"", "rope_type 'yarn'"),
    ("use_sliding_window", "true", "use_sliding_window"),
    ("hidden_act", "\"gelu\"", "hidden_act 'gelu'"),
  ])
  func refusesOtherDecoders(key: String, value: String, message: String) throws {
    let value = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    let found = refusal("qwen3-deepstack", ["text_config." + key: value])
    #expect(found.contains(message), "\(found)")
  }

  @Test(arguments: [
    ("num_position_embeddings", "48", "is 48, which is no square"),
    ("deepstack_visual_indexes", "[0, 4]", "has 4, which is none of the layers 1 to 3"),
    ("deepstack_visual_indexes", "[2, 0]", "has 0, which is none of the layers 3 to 3"),
    ("deepstack_visual_indexes", "[1, 1]", "has 1, which is none of the layers 2 to 3"),
    ("deepstack_visual_indexes", "3", "deepstack_visual_indexes 3"),
    ("rope_parameters", "{\"rope_type\": \"axial\", \"rope_theta\": 500.0}", "rope_theta"),
    ("rope_parameters", "{\"rope_type\": \"default\"}", "rope_type 'default'"),
    ("num_heads", "3", "does not divide the width, 40, into heads of 4n"),
    ("hidden_act", "\"silu\"", "hidden_act 'silu'"),
    ("in_channels", "4", "in_channels 4"),
  ])
  func refusesOtherTowers(key: String, value: String, message: String) throws {
    let value = try JSONSerialization.jsonObject(with: Data(value.utf8), options: .fragmentsAllowed)
    let found = refusal("qwen3-deepstack", ["vision_config." + key: value])
    #expect(found.contains("vision_config") && found.contains(message), "\(found)")
  }

  @Test(
    arguments: [
      ("patch_size", 14, "patch_size is 14, not the encoder's, 6"),
      ("merge_size", 3, "merge_size is 3"), ("temporal_patch_size", 1, "temporal_patch_size is 1"),
      ("do_resize", false, "do_resize"), ("size", ["height": 32, "width": 32], "size.height"),
      ("image_processor_type", "CLIPImageProcessor", "image_processor_type"),
    ] as [(String, any Sendable, String)])
  func refusesOtherProcessors(key: String, value: any Sendable, message: String) {
    let found = refusal("qwen3-deepstack", processor: [key: value])
    #expect(found.contains("preprocessor_config.json") && found.contains(message), "\(found)")
  }

  /// Published files leave out what the classes say.
  @Test func fillsInTheDefaultsOfTransformers() throws {
    let gone = [
      "hidden_act", "in_channels", "num_heads", "temporal_patch_size", "spatial_merge_size",
      "rope_parameters",
    ]
    let changes = Dictionary(
      uniqueKeysWithValues: gone.map { ("vision_config." + $0, nil as Any?) })
    let config = try read(
      "qwen3-deepstack",
      changes.merging([
        "vision_config.hidden_size": 64, "vision_config.num_position_embeddings": nil,
        "vision_config.depth": 27, "vision_config.deepstack_visual_indexes": nil,
        "text_config.num_hidden_layers": 5,
      ]) { $1 })
    guard case .qwen3VL(let qwen)? = config.vision else {
      Issue.record("not Qwen3-VL")
      return
    }
    #expect(qwen.tower.headCount == 16 && qwen.tower.merge == 2 && qwen.activation == .geluTanh)
    #expect(qwen.positionsPerSide == 48 && qwen.deepstackLayers == [8, 16, 24])
    #expect(config.text.queryKeyNorm && config.text.ropeInterleaves && !config.text.mlpBias)
    #expect(config.text.ropeSections == [4, 2, 2] && !config.text.queryKeyValueBias)
  }

  /// As published: the rotation's base beside it, the parameters under their older name.
  @Test func readsTheOlderFormOfTheRotation() throws {
    let rope: [String: Any] = [
      "rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": true,
    ]
    let config = try read(
      "qwen3-deepstack",
      [
        "text_config.rope_parameters": nil, "text_config.rope_scaling": rope,
        "text_config.rope_theta": 5_000_000,
      ])
    #expect(config.text.ropeTheta == 5_000_000 && config.text.ropeSections == [4, 2, 2])
  }

  /// A base that nobody says is the class's own: five hundred thousand, or in the older families a million.
  @Test(arguments: [("qwen3-deepstack", 500_000), ("qwen25-windows", 1_000_000)])
  func theRotationHasABase(name: String, base: Int) throws {
    let config = try read(name, ["text_config.rope_parameters.rope_theta": nil])
    #expect(config.text.ropeTheta == Float(base))
  }

  /// White space between tags counts for nothing where these say so.
  @Test func aTemplateMayBeSpreadOverLines() throws {
    let path = golden("../tokenizers/chat/qwen3_vl.jinja")
    let compact = String(
      decoding: try #require(FileManager.default.contents(atPath: path)), as: UTF8.self)
    let spread = compact.replacingOccurrences(of: "{%-", with: "\n    {%-")
      .replacingOccurrences(of: "{{-", with: "\n        {{-")
      .replacingOccurrences(of: "-%}", with: "-%}\n            ")
    #expect(spread != compact && recognisedChatTemplate(spread)?.name == "qwen3_vl")
    #expect(
      recognisedChatTemplate(spread.replacingOccurrences(of: "assistant", with: "model")) == nil)
  }
}
