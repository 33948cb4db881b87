import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

private let processor = """
  {"aspect_ratio_setting": "anyres", "crop_size": {"height": 336, "width": 336},
   "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_rescale": true,
   "do_resize": true, "image_mean": [0.48145466, 0.4578275, 0.40821073],
   "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
   "image_processor_type": "LlavaNextImageProcessor",
   "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
   "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}}
  """

/// The way the published LLaVA-NeXT checkpoints say what they are, with another decoder in each.
private func config(_ text: String, image: Int) -> String {
  """
  {"architectures": ["LlavaNextForConditionalGeneration"], "ignore_index": -100,
   "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]],
   "image_token_index": \(image), "model_type": "llava_next", "projector_hidden_act": "gelu",
   "text_config": \(text), "tie_word_embeddings": false, "use_image_newline_parameter": true,
   "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
     "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
     "patch_size": 14, "projection_dim": 768, "vocab_size": 32000},
   "vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
  """
}

private func read(_ config: String, _ processor: String = processor) throws -> CheckpointConfig {
  let folder = try TemporaryFolder()
  try Data(config.utf8).write(to: URL(fileURLWithPath: folder.path + "/config.json"))
  try Data(processor.utf8).write(
    to: URL(fileURLWithPath: folder.path + "/preprocessor_config.json"))
  return try CheckpointConfig(folder: folder.path)
}

private func message(_ body: () throws -> CheckpointConfig) -> String {
  do {
    _ = try body()
    return "accepted"
  } catch {
    return "\(error)"
  }
}

@Suite struct TiledConfigTests {
  @Test func readsTheConfigurationWithMistral() throws {
    let text = """
      {"_name_or_path": "mistralai/Mistral-7B-Instruct-v0.2", "architectures": ["MistralForCausalLM"],
       "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
       "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 1000000.0,
       "sliding_window": null, "torch_dtype": "bfloat16", "vocab_size": 32064}
      """
    let found = try read(config(text, image: 32_000))
    #expect((found.text.dim, found.text.hiddenDim, found.text.layerCount) == (4096, 14_336, 32))
    #expect((found.text.kvHeadCount, found.text.headDim, found.text.ropeTheta) == (8, 128, 1e6))
    #expect(found.text.slidingWindow == nil && found.text.maxPositions == 32_768)
    guard case .llavaNext(let vision)? = found.vision else {
      Issue.record("not read as LLaVA-NeXT")
      return
    }
    #expect(vision.resolutions.map(\.height) == [336, 672, 672, 1008, 336])
    #expect(vision.resolutions.map(\.width) == [672, 336, 672, 336, 1008])
    // 576 for the whole image, and 48 lines of 48 patches with their ends.
    #expect((vision.tileTokenCount, vision.maxRowCount) == (576, 576 + 48 * 49))
    #expect(vision.preprocessing.fit == .stretch && vision.preprocessing.resizeTo == 336)
    #expect(found.imageTokenID == 32_000)
  }

  @Test func aWindowIsReadAndItsDefaultIsThatOfMistral() throws {
    let small = #"{"model_type": "mistral", "num_attention_heads": 32, "sliding_window": 1000}"#
    #expect(try read(config(small, image: 5)).text.slidingWindow == 1000)
    let absent = #"{"model_type": "mistral"}"#
    let found = try read(config(absent, image: 5)).text
    #expect(found.slidingWindow == 4096 && found.maxPositions == 131_072 && found.kvHeadCount == 8)
    let long = #"{"model_type": "mistral", "max_position_embeddings": 4096}"#
    #expect(try read(config(long, image: 5)).text.slidingWindow == nil)
    let wrong = #"{"model_type": "mistral", "sliding_window": 0}"#
    #expect(message { try read(config(wrong, image: 5)) }.contains("sliding_window is 0"))
  }

  @Test func readsVicunaAndLlama3() throws {
    let vicuna = """
      {"_name_or_path": "lmsys/vicuna-7b-v1.5", "architectures": ["LlamaForCausalLM"],
       "max_position_embeddings": 4096, "model_type": "llama", "pad_token_id": 0,
       "rms_norm_eps": 1e-05, "torch_dtype": "float16", "vocab_size": 32064}
      """
    #expect(try read(config(vicuna, image: 32_000)).text.kvHeadCount == 32)
    let llama3 = """
      {"architectures": ["LlamaForCausalLM"], "bos_token_id": 128000, "eos_token_id": 128001,
       "intermediate_size": 14336, "max_position_embeddings": 8192, "model_type": "llama",
       "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
       "torch_dtype": "bfloat16", "vocab_size": 128320}
      """
    let found = try read(config(llama3, image: 128_256))
    #expect((found.text.kvHeadCount, found.text.vocabSize) == (8, 128_320))
    #expect(found.text.ropeTheta == 500_000 && found.imageTokenID == 128_256)
  }

  @Test(arguments: [
    ("[[336, 672]]", "[[336, 673]]", "not multiples of the tile size, 336"),
    ("[[336, 672]]", "[[0, 336]]", "not multiples of the tile size, 336"),
    ("[[336, 672]]", "[[336, 16800]]", "not multiples of the tile size, 336"),
    ("[[336, 672]]", "[]", "not a list of 1 to 64"),
    ("[[336, 672]]", "[[336]]", "not [height, width]"),
    ("[[336, 672]]", "[336, 672]", "not [height, width]"),
    ("[[336, 672]]", "\"(1x1),...,(6x6)\"", "not a list of 1 to 64"),
    ("[[336, 672]]", "[[672, 336]]", "differs from that of config.json"),
  ])
  func refusesTilesThatDoNotFit(processed: String, configured: String, wanted: String) throws {
    func with(_ tiles: String, _ json: String) throws -> String {
      let all = "[[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]"
      try #require(json.contains(all))
      return json.replacingOccurrences(of: all, with: tiles)
    }
    let text = try with(configured, config("{}", image: 5))
    let found = message { try read(text, try! with(processed, processor)) }
    #expect(found.contains(wanted) && found.contains("image_grid_pinpoints"), "\(found)")
  }

  @Test(arguments: [
    ("\"default\"}", "\"full\"}", "vision_feature_select_strategy 'full'"),
    ("parameter\": true", "parameter\": false", "use_image_newline_parameter false"),
    ("[\"LlavaNextForConditionalGeneration\"]", "[\"LlavaQwen\"]", "architectures"),
  ])
  func refusesWhatItCannotPutTogether(part: String, other: String, wanted: String) throws {
    let text = config("{}", image: 5)
    try #require(text.contains(part))
    let found = message { try read(text.replacingOccurrences(of: part, with: other)) }
    #expect(found.contains(wanted), "\(found)")
  }

  @Test(arguments: [
    ("\"shortest_edge\": 336", "\"shortest_edge\": 224", "size"),
    ("\"height\": 336, \"width\": 336", "\"height\": 224, \"width\": 224", "crop_size"),
    ("LlavaNextImageProcessor", "LlavaOnevisionImageProcessor", "image_processor_type"),
    ("\"do_resize\": true", "\"do_resize\": false", "do_resize"),
    ("\"resample\": 3", "\"resample\": 4", "resample"),
  ])
  func refusesOtherWaysToCut(part: String, other: String, key: String) throws {
    try #require(processor.contains(part))
    let changed = processor.replacingOccurrences(of: part, with: other)
    let found = message { try read(config("{}", image: 5), changed) }
    #expect(found.contains("preprocessor_config.json") && found.contains(key), "\(found)")
  }

  @Test func theEndOfALineMustBeThere() throws {
    let folder = try TemporaryFolder()
    var fixture = try CheckpointFixture("next-vicuna")
    fixture.tensors.removeAll { $0.name == "image_newline" }
    try fixture.write(to: folder)
    let error = conversionError(
      ConvertOptions(
        source: folder.path, target: folder.path + "/x.piom", rules: EncodingRules(weights: .int4),
        threadCount: 1))
    #expect(error == .missingTensor(name: "image_newline"))
  }
}
