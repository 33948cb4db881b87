import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

/// One change of a good file, and what is said about it.
private struct Refusal: Sendable, CustomTestStringConvertible {
  let text: String
  let change: @Sendable (inout GGUFForge) -> Void
  var testDescription: String { text }
}

private func refusal(
  _ text: String, _ change: @escaping @Sendable (inout GGUFForge) -> Void
) -> Refusal {
  Refusal(text: text, change: change)
}

private func set(_ key: String, _ value: [UInt8]?, _ text: String) -> Refusal {
  refusal(text) { $0[key] = value }
}

private let textRefusals: [Refusal] = [
  set("general.architecture", GGUFForge.string("phi3"), "'phi3' is not supported"),
  set("general.architecture", nil, "general.architecture 'missing'"),
  set("llama.embedding_length", nil, "llama.embedding_length is missing"),
  set("llama.embedding_length", GGUFForge.uint32(0), "llama.embedding_length is 0, not in"),
  set("llama.embedding_length", GGUFForge.float(256), "llama.embedding_length is not an integer"),
  set("llama.embedding_length", GGUFForge.uint32(128), "has shape"),
  set("llama.block_count", GGUFForge.uint32(4), "tensor blk.3.attn_norm.weight is missing"),
  set("llama.block_count", GGUFForge.uint32(2), "not part of the supported architectures"),
  set("llama.attention.head_count_kv", GGUFForge.ints([1, 2, 1]), "list of different numbers"),
  set("llama.attention.key_length", GGUFForge.uint32(15), "value_length"),
  set("llama.rope.dimension_count", GGUFForge.uint32(8), "llama.rope.dimension_count 8"),
  set("llama.rope.scaling.type", GGUFForge.string("longrope"), "'longrope' is not supported"),
  set("llama.expert_count", GGUFForge.uint32(8), "mixtures of experts"),
  set("split.count", GGUFForge.uint32(3), "llama-gguf-split --merge"),
  set("llama.logit_scale", GGUFForge.float(2), "llama.logit_scale is not supported"),
  set("tokenizer.ggml.model", GGUFForge.string("bert"), "'bert' is not supported"),
  set("tokenizer.ggml.pre", GGUFForge.string("tekken"), "'tekken' is not supported"),
  set("tokenizer.ggml.pre", nil, "tokenizer.ggml.pre is missing"),
  set("tokenizer.ggml.tokens", nil, "tokenizer.ggml.tokens is missing"),
  set("tokenizer.ggml.merges", nil, "tokenizer.ggml.merges is missing"),
  set("tokenizer.ggml.merges", GGUFForge.strings(["xyzzy plugh"]), "merge 0"),
  set("tokenizer.ggml.eos_token_id", GGUFForge.uint32(5_000), "tokenizer.ggml.eos_token_id"),
  set(
    "tokenizer.ggml.token_type", GGUFForge.ints([1]),
    "token_type has 1 elements, needed one for each"),
  set("tokenizer.ggml.scores", GGUFForge.floats([1, 2]), "tokenizer.ggml.scores is not a list"),
  set(
    "tokenizer.ggml.tokens", GGUFForge.strings([String](repeating: "", count: 400)),
    "has 400 elements"),
  set(
    "tokenizer.ggml.tokens", GGUFForge.strings([String(repeating: "a", count: 257)]),
    "a piece of more than 256 bytes"),
  set("tokenizer.ggml.add_bos_token", GGUFForge.bool(1), "bos_token_id is missing"),
  set("tokenizer.chat_template", GGUFForge.string("{{ 'Hi' }}"), "--chat-template NAME"),
  refusal("tensor output_norm.weight is missing") {
    $0.tensors.removeAll { $0.name == "output_norm.weight" }
  },
  refusal("IQ4_XS, which is not supported") {
    $0.change("blk.0.attn_q.weight") {
      ($0.type, $0.data) = (23, [UInt8](repeating: 0, count: 32 * 136))
    }
  },
  refusal("NaN or infinity in row 0") {
    $0.change("blk.0.ffn_gate.weight") { $0.data[1] = 0x7C }
  },
]

private let visionRefusals: [Refusal] = [
  set("general.architecture", GGUFForge.string("llama"), "clip is"),
  set("clip.projector_type", GGUFForge.string("ldp"), "'ldp' is not supported"),
  set("clip.vision.mm_patch_merge_type", GGUFForge.string("spatial"), "'spatial' is not supported"),
  set(
    "clip.vision.mm_patch_merge_type", GGUFForge.string("spatial_unpad"),
    "clip.vision.image_grid_pinpoints is missing"),
  set(
    "clip.vision.image_grid_pinpoints", GGUFForge.ints([42, 84]), "'flat' is not supported with"),
  set("clip.vision.image_mean", nil, "clip.vision.image_mean is missing"),
  set("clip.vision.image_std", GGUFForge.floats([1, 1, 0]), "clip.vision.image_std is not three"),
  set("clip.vision.feature_layer", GGUFForge.ints([1, 2]), "clip.vision.feature_layer"),
  set("clip.use_silu", GGUFForge.bool(1), "clip.use_silu"),
  refusal("not part of the supported") {
    $0.tensors.append(
      GGUFForge.Tensor(
        name: "model.image_newline", type: 0, dims: [1], data: [UInt8](repeating: 0, count: 4)))
  },
]

/// Of a pair with tiles of 32 pixels.
private let tileRefusals: [Refusal] = [
  set("clip.vision.mm_patch_merge_type", nil, "'flat' is not supported with"),
  set("clip.vision.image_grid_pinpoints", nil, "clip.vision.image_grid_pinpoints is missing"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([32, 33]), "tile size, 32"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([32]), "tile size, 32"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([0, 32]), "tile size, 32"),
  set("clip.vision.image_grid_pinpoints", GGUFForge.ints([1 << 20, 32]), "tile size, 32"),
  set("clip.vision.image_aspect_ratio", GGUFForge.string("pad"), "'pad' is not supported"),
  refusal("model.image_newline") { forge in
    forge.tensors.removeAll { $0.name == "model.image_newline" }
  },
]

@Suite struct GGUFRefusalTests {
  private func text(_ options: ConvertOptions) -> String {
    conversionError(options).map { "\($0)" } ?? "accepted"
  }

  @Test(arguments: textRefusals)
  fileprivate func refusesWhatItCannotRun(refusal: Refusal) throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("kinds"))
    refusal.change(&forge)
    let found = text(ggufOptions(try forge.write(to: folder), folder))
    #expect(found.contains(refusal.text), "\(found)")
    #expect(!found.contains("\n") && folder.contents == ["model.gguf"])
  }

  @Test(arguments: visionRefusals)
  fileprivate func refusesEncodersItCannotRun(refusal: Refusal) throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("yarn-padded-mmproj"))
    refusal.change(&forge)
    let projector = try forge.write(to: folder, "mmproj.gguf")
    let found = text(ggufOptions(goldenGGUF("yarn-padded"), folder, projector: projector))
    #expect(found.contains(refusal.text), "\(found)")
  }

  @Test(arguments: tileRefusals)
  fileprivate func refusesTilesItCannotCut(refusal: Refusal) throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("next-vicuna-mmproj"))
    refusal.change(&forge)
    let projector = try forge.write(to: folder, "mmproj.gguf")
    let found = text(ggufOptions(goldenGGUF("next-vicuna"), folder, projector: projector))
    #expect(found.contains(refusal.text), "\(found)")
  }

  @Test func aFolderTakesNoProjector() throws {
    let folder = try TemporaryFolder()
    let all = ggufOptions(golden("text-only"), folder, projector: goldenGGUF("yarn-padded-mmproj"))
    #expect(conversionError(all) == .projectorWithoutGGUF(path: golden("text-only")))
  }

  @Test func anEncoderWithoutATemplateNeedsOne() throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("yarn-padded"))
    forge["tokenizer.chat_template"] = nil
    var all = ggufOptions(
      try forge.write(to: folder), folder, projector: goldenGGUF("yarn-padded-mmproj"))
    #expect(conversionError(all) == .tokenizer(.noChatTemplate))
    all.chatTemplate = "vicuna_v1"
    #expect(try convert(all).config.prompt.name == "vicuna_v1")
  }

  /// A language model's vocabulary has no `<image>`: the piece that no text becomes is it.
  @Test func theUnknownPieceStandsForImages() throws {
    let folder = try TemporaryFolder()
    var forge = try GGUFForge(goldenGGUF("yarn-padded"))
    let tokens = try #require(forge["tokenizer.ggml.tokens"])
    let hidden = String(decoding: tokens, as: UTF8.self)
    #expect(hidden.contains("<image>"))
    var bytes = tokens
    let range = try #require(Data(tokens).range(of: Data("<image>".utf8)))
    bytes.replaceSubrange(range, with: Array("<other>".utf8))
    forge["tokenizer.ggml.tokens"] = bytes
    let all = ggufOptions(
      try forge.write(to: folder), folder, projector: goldenGGUF("yarn-padded-mmproj"))
    let report = try convert(all)
    #expect(report.config.specialTokens.image == 0)
    #expect(report.config.prompt.imagePart == "<image>\n")
  }
}
