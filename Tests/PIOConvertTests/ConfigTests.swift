import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

/// What a changed golden checkpoint is refused with.
private func refusal(
  of name: String = "mha-biases", _ change: (inout CheckpointFixture) throws -> Void
) throws -> String? {
  var fixture = try CheckpointFixture(name)
  try change(&fixture)
  let folder = try TemporaryFolder()
  try fixture.write(to: folder)
  let before = folder.contents.count
  let error = conversionError(
    ConvertOptions(
      source: folder.path, target: folder.path + "/x.piom", rules: EncodingRules(weights: .int4),
      threadCount: 1))
  #expect(folder.contents.count == before, "a refused checkpoint leaves no file")
  #expect(error?.description.contains("\n") != true)
  return error?.description
}

private func json(_ text: String) -> Any {
  try! JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)
}

@Suite struct ConfigTests {
  @Test(
    arguments: [
      ("model_type", #""foo""#, "config.json: model_type 'foo' is not supported"),
      (
        "model_type", #""qwen3_vl_moe""#,
        "'qwen3_vl_moe' (Qwen3-VL, a mixture of experts) is not supported: LLaVA, LLaVA-NeXT, SmolVLM, Idefics3, Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Llama and Mistral are"
      ),
      ("model_type", #""internvl""#, "model_type 'internvl' (InternVL) is not supported"),
      ("architectures", #"["LlavaLlamaForCausalLM"]"#, "LlavaLlamaForCausalLM"),
      ("quantization_config", #"{"quant_method": "awq"}"#, "quantization_config ('awq')"),
      ("text_config.model_type", #""mixtral""#, "text_config.model_type 'mixtral'"),
      ("text_config.hidden_act", #""gelu""#, "text_config.hidden_act 'gelu'"),
      ("text_config.sliding_window", #"64"#, "text_config.sliding_window 64"),
      ("text_config.rope_scaling", #"{"type": "dynamic", "factor": 2.0}"#, "'dynamic'"),
      ("text_config.num_key_value_heads", #"2"#, "does not divide num_attention_heads"),
      ("text_config.hidden_size", #"1099511627776"#, "text_config.hidden_size is"),
      ("text_config.hidden_size", #"-1"#, "text_config.hidden_size is -1"),
      ("text_config.hidden_size", #""x""#, "text_config.hidden_size is not an integer"),
      ("text_config.num_hidden_layers", #"1000000"#, "num_hidden_layers is 1000000, not in 1…1024"),
      ("text_config", #"[1]"#, "text_config is not an object"),
      ("vision_config.model_type", #""siglip_vision_model""#, "'siglip_vision_model'"),
      ("vision_config.hidden_act", #""relu""#, "vision_config.hidden_act 'relu'"),
      ("vision_config.image_size", #"33"#, "image_size 33 is not a multiple of patch_size, 8"),
      ("vision_config.num_channels", #"4"#, "num_channels 4"),
      ("vision_feature_layer", #"[-2, -5]"#, "vision_feature_layer [-2, -5] is not supported"),
      ("vision_feature_layer", #"9"#, "vision_feature_layer is 9, not in"),
      ("vision_feature_select_strategy", #""cls""#, "vision_feature_select_strategy 'cls'"),
      ("projector_hidden_act", #""silu""#, "projector_hidden_act 'silu'"),
      ("image_token_index", #"100000"#, "image_token_index is 100000"),
    ])
  func refusesByName(key: String, value: String, message: String) throws {
    let found = try refusal { $0.set(key, json(value)) }
    #expect(found?.contains(message) == true, "\(found ?? "accepted")")
  }

  @Test(
    arguments: [
      ("do_resize", #"false"#, "do_resize false"),
      ("resample", #"4"#, "resample 4"),
      ("do_pad", #"true"#, "do_pad true"),
      ("size", #"{"longest_edge": 32}"#, "longest_edge 32"),
      ("size", #"{"height": 32, "width": 40}"#, "size is not square"),
      ("size", #"{"shortest_edge": 16}"#, "size is 16"),
      ("size", #"{"shortest_edge": 8193}"#, "shortest_edge is 8193, not in 1…8192"),
      ("crop_size", #"{"height": 24, "width": 24}"#, "crop_size is not the image_size"),
      ("do_center_crop", #"false"#, "do_center_crop false"),
      ("image_std", #"[0, 1, 1]"#, "image_std"),
      ("image_mean", #"[1, 2]"#, "image_mean is not three numbers"),
      ("image_processor_type", #""SiglipImageProcessor""#, "'SiglipImageProcessor'"),
    ])
  func refusesPreprocessingByName(key: String, value: String, message: String) throws {
    let found = try refusal { $0.setProcessor(key, json(value)) }
    #expect(found?.contains(message) == true, "\(found ?? "accepted")")
  }

  @Test func refusesAModelWithoutItsImageProcessor() throws {
    let found = try refusal { $0.processor = nil }
    #expect(found?.contains("preprocessor_config.json") == true)
  }

  private func llava(_ config: CheckpointConfig) throws -> LLaVAConfig {
    guard case .llava(let llava)? = config.vision else { throw Unexpected() }
    return llava
  }

  private struct Unexpected: Error {}

  private func read(_ config: String, _ processor: String = "{}") throws -> CheckpointConfig {
    let folder = try TemporaryFolder()
    try Data(config.utf8).write(to: URL(fileURLWithPath: folder.path + "/config.json"))
    try Data(processor.utf8).write(
      to: URL(fileURLWithPath: folder.path + "/preprocessor_config.json"))
    return try CheckpointConfig(folder: folder.path)
  }

  /// The published llava-1.5-7b-hf leaves out what equals the defaults.
  @Test func fillsInTheDefaultsOfTransformers() throws {
    let config = try read(
      """
      {"architectures": ["LlavaForConditionalGeneration"], "ignore_index": -100,
       "image_token_index": 32000, "model_type": "llava", "pad_token_id": 32001,
       "projector_hidden_act": "gelu", "tie_word_embeddings": false,
       "text_config": {"_name_or_path": "lmsys/vicuna-7b-v1.5",
         "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096,
         "model_type": "llama", "rms_norm_eps": 1e-05, "torch_dtype": "float16",
         "vocab_size": 32064},
       "vision_config": {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096,
         "model_type": "clip_vision_model", "num_attention_heads": 16, "num_hidden_layers": 24,
         "patch_size": 14, "projection_dim": 768, "vocab_size": 32000},
       "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
       "vocab_size": 32064}
      """,
      """
      {"crop_size": {"height": 336, "width": 336}, "do_center_crop": true,
       "do_convert_rgb": true, "do_normalize": true, "do_rescale": true, "do_resize": true,
       "image_mean": [0.48145466, 0.4578275, 0.40821073],
       "image_processor_type": "CLIPImageProcessor",
       "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
       "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 336}}
      """)
    let text = config.text
    #expect((text.dim, text.hiddenDim, text.layerCount) == (4096, 11_008, 32))
    #expect((text.headCount, text.kvHeadCount, text.headDim) == (32, 32, 128))
    #expect((text.vocabSize, text.maxPositions, text.rmsNormEpsilon) == (32_064, 4096, 1e-5))
    #expect(!text.tiedHead && !text.mlpBias && !text.queryKeyValueBias)
    let vision = try llava(config)
    #expect((vision.tower.dim, vision.tower.layerCount, vision.tower.headCount) == (1024, 23, 16))
    #expect((vision.visualTokenCount, vision.projector.hiddenDim) == (576, 4096))
    #expect(vision.tower.activation == .quickGelu && vision.projector.activation == .gelu)
    #expect(vision.preprocessing.resizeTo == 336 && vision.preprocessing.fit == .crop)
    #expect(vision.preprocessing.padColor == (122, 116, 104))
    #expect(config.imageTokenID == 32_000)
  }

  @Test func anAbsentVisionConfigIsThatOfLlava() throws {
    let config = try read(
      #"{"model_type":"llava","image_token_index":7}"#,
      #"{"size":336,"crop_size":336}"#
    )
    let tower = try llava(config).tower
    #expect((tower.dim, tower.imageSize, tower.layerCount) == (1024, 336, 23))
  }

  @Test func aSparseVisionConfigIsThatOfCLIP() throws {
    let config = try read(
      #"{"model_type":"llava","image_token_id":7,"vision_config":{}}"#,
      #"{"size":224,"crop_size":224}"#)
    let vision = try llava(config)
    let (tower, projector) = (vision.tower, vision.projector)
    // What `CLIPVisionConfig` and `LlavaConfig` of transformers say where a checkpoint says nothing.
    #expect((tower.dim, tower.hiddenDim, tower.headCount) == (768, 3072, 12))
    #expect((tower.imageSize, tower.patchSize) == (224, 32))
    #expect(tower.layerNormEpsilon == 1e-5 && tower.activation == .quickGelu)
    // Of 12 layers; the feature is what the last but one gives.
    #expect(tower.layerCount == 11 && vision.dropsClassToken)
    #expect(projector.activation == .gelu && projector.bias)
    #expect(projector.hiddenDim == config.text.dim)
  }

  @Test func readsTheStepsOfTheProcessor() throws {
    let config = try read(
      #"{"model_type":"llava","image_token_id":7,"vision_config":{"image_size":64,"patch_size":16}}"#,
      """
      {"image_processor_type": "LlavaImageProcessorFast", "do_pad": true, "do_normalize": false,
       "size": {"shortest_edge": 64}, "crop_size": {"height": 64, "width": 64}, "resample": 2,
       "do_rescale": false, "image_mean": [0.5, 0.25, 1]}
      """)
    let steps = try llava(config).preprocessing
    #expect(steps.fit == .pad && steps.filter == .bilinear && steps.resizeTo == 64)
    #expect(steps.mean == (0, 0, 0) && steps.std == (1, 1, 1) && steps.rescaleFactor == 1)
    #expect(steps.padColor == (127, 63, 255))
  }
}
