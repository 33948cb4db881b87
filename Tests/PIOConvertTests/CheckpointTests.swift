import Foundation
import PIOFormat
import Testing

@testable import PIOConvert

/// What the checkpoint in `folder` is refused with; nothing may be left of the target.
private func refusal(in folder: TemporaryFolder, _ weights: TensorKind = .int4) -> String? {
  let before = folder.contents.sorted()
  let error = conversionError(
    ConvertOptions(
      source: folder.path, target: folder.path + "/x.piom", rules: EncodingRules(weights: weights),
      threadCount: 2))
  #expect(folder.contents.sorted() == before)
  return error?.description
}

private func refusal(
  _ weights: TensorKind = .int4, _ change: (inout CheckpointFixture) -> Void
) throws -> String? {
  var fixture = try CheckpointFixture("text-only")
  change(&fixture)
  let folder = try TemporaryFolder()
  try fixture.write(to: folder)
  return refusal(in: folder, weights)
}

private func edit(_ path: String, _ change: (inout Data) -> Void) throws {
  var data = FileManager.default.contents(atPath: path)!
  change(&data)
  try data.write(to: URL(fileURLWithPath: path))
}

@Suite struct CheckpointTests {
  @Test func refusesAMissingTensor() throws {
    let name = "model.layers.0.mlp.up_proj.weight"
    #expect(try refusal { $0.tensors.removeAll { $0.name == name } } == "tensor \(name) is missing")
  }

  @Test func refusesAMissingHead() throws {
    #expect(
      try refusal { $0.set("tie_word_embeddings", false) } == "tensor lm_head.weight is missing")
  }

  @Test func refusesATensorItDoesNotKnow() throws {
    let found = try refusal {
      var extra = $0["model.norm.weight"]
      extra.name = "model.layers.0.self_attn.q_norm.weight"
      $0.tensors.append(extra)
    }
    #expect(
      found == "tensor model.layers.0.self_attn.q_norm.weight is not part of the supported"
        + " architectures")
  }

  @Test func refusesAWrongShape() throws {
    let found = try refusal { $0.set("intermediate_size", 95) }
    #expect(found?.contains("has shape [96, 72], the configuration needs [95, 72]") == true)
  }

  @Test func refusesATypeItDoesNotReadOnlyWhereItIsNeeded() throws {
    let needed = try refusal {
      $0["model.norm.weight"].type = "I16"
    }
    #expect(needed?.contains("tensor model.norm.weight has type I16") == true)
    let unneeded = try refusal {
      $0.tensors.append(
        CheckpointFixture.Tensor(
          name: "model.layers.0.self_attn.rotary_emb.inv_freq", type: "F64", shape: [4],
          bytes: [UInt8](repeating: 0, count: 32)))
      $0.set("model_type", "llama")
      $0.set("hidden_act", "relu")
    }
    #expect(unneeded?.contains("hidden_act") == true)
  }

  @Test(arguments: [TensorKind.int4, .int8, .f16, .f32])
  func refusesNumbersThatAreNotFinite(kind: TensorKind) throws {
    let name = "model.layers.1.mlp.down_proj.weight"
    let found = try refusal(kind) {
      let at = 2 * (20 * 96 + 95)
      $0[name].bytes.replaceSubrange(at..<at + 2, with: [0x80, 0x7F])  // bf16 infinity
    }
    #expect(found == "tensor \(name) has a NaN or infinity in row 20, column 95")
  }

  @Test func refusesNumbersTooLargeForTheirKind() throws {
    let name = "model.layers.1.mlp.down_proj.weight"
    let found = try refusal(.f16) {
      $0[name].bytes.replaceSubrange(4..<6, with: [0x00, 0x48])  // bf16 131072
    }
    #expect(
      found?.hasPrefix("tensor \(name) has 131072.0 in row 0, column 2, too large for f16") == true)
  }

  @Test func aHeadEqualToTheEmbeddingStaysTied() throws {
    for differs in [false, true] {
      var fixture = try CheckpointFixture("text-only")
      var head = fixture["model.embed_tokens.weight"]
      head.name = "lm_head.weight"
      if differs { head.bytes[0] ^= 1 }
      fixture.tensors.append(head)
      let folder = try TemporaryFolder()
      try fixture.write(to: folder)
      let report = try convert(
        ConvertOptions(
          source: folder.path, target: folder.path + "/x.piom",
          rules: EncodingRules(weights: .int8)))
      #expect(report.config.text.tiedHead == !differs)
    }
  }

  // MARK: Files

  private func copy(_ name: String) throws -> TemporaryFolder {
    let folder = try TemporaryFolder()
    for file in try FileManager.default.contentsOfDirectory(atPath: golden(name)) {
      try FileManager.default.copyItem(
        atPath: "\(golden(name))/\(file)", toPath: "\(folder.path)/\(file)")
    }
    return folder
  }

  @Test func namesTheShardThatIsTruncated() throws {
    let folder = try copy("gqa-linear-sharded")
    let name = "model-00003-of-00006.safetensors"
    let whole = FileManager.default.contents(atPath: "\(folder.path)/\(name)")!.count
    try edit("\(folder.path)/\(name)") { $0.removeLast(100) }
    #expect(
      refusal(in: folder)
        == "shard 3 (\(name)) is truncated: \(grouped(whole - 100)) of \(grouped(whole)) bytes")
  }

  @Test func namesAShardThatIsNotThere() throws {
    let folder = try copy("gqa-linear-sharded")
    try FileManager.default.removeItem(atPath: folder.path + "/model-00002-of-00006.safetensors")
    #expect(refusal(in: folder)?.contains("model-00002-of-00006.safetensors: No such file") == true)
  }

  @Test(arguments: [
    "../outside.safetensors", "/etc/passwd", "a/b.safetensors", "..", ".hidden", "", "a\\b",
  ])
  func anIndexCannotPointOutOfItsFolder(name: String) throws {
    let folder = try copy("gqa-linear-sharded")
    let index = try JSONSerialization.data(withJSONObject: ["weight_map": ["x": name]])
    try index.write(to: URL(fileURLWithPath: folder.path + "/model.safetensors.index.json"))
    #expect(refusal(in: folder)?.contains("is not a plain file name") == true)
  }

  @Test func refusesAnIndexThatNamesAnotherShard() throws {
    let folder = try copy("gqa-linear-sharded")
    try edit(folder.path + "/model.safetensors.index.json") {
      let text = String(decoding: $0, as: UTF8.self)
      $0 = Data(text.replacingOccurrences(of: "00001-of", with: "00002-of").utf8)
    }
    #expect(refusal(in: folder)?.contains("is missing") == true)
  }

  @Test func refusesAFolderWithoutWeightsOrConfig() throws {
    let folder = try TemporaryFolder()
    #expect(refusal(in: folder)?.contains("config.json: No such file") == true)
    try Data(#"{"model_type":"llama"}"#.utf8)
      .write(to: URL(fileURLWithPath: folder.path + "/config.json"))
    #expect(refusal(in: folder)?.contains("holds neither model.safetensors nor") == true)
  }

  /// Passed over, it would be as if it were not there, and the model another one.
  @Test(arguments: ["model.safetensors.index.json", "special_tokens_map.json"])
  func aFileThatCannotBeLookedAtIsNotMissing(name: String) throws {
    let folder = try copy("text-only")
    let path = folder.path + "/" + name
    try? FileManager.default.removeItem(atPath: path)
    try FileManager.default.createSymbolicLink(atPath: path, withDestinationPath: name)
    let problem = try #require(refusal(in: folder))
    #expect(problem.contains(name) && problem.contains("Too many levels of symbolic links"))
  }

  @Test func refusesAConfigThatIsNotJSON() throws {
    let folder = try copy("text-only")
    try edit(folder.path + "/config.json") { $0.removeLast(20) }
    #expect(refusal(in: folder)?.contains("config.json is not valid JSON") == true)
  }

  @Test func refusesAFolderInPlaceOfAFile() throws {
    let folder = try copy("text-only")
    try FileManager.default.removeItem(atPath: folder.path + "/model.safetensors")
    try FileManager.default.createDirectory(
      atPath: folder.path + "/model.safetensors", withIntermediateDirectories: false)
    #expect(refusal(in: folder)?.contains("model.safetensors") == true)
  }

  /// Every prefix of the header of a small checkpoint, and cuts into its data.
  @Test func refusesEveryTruncatedFile() throws {
    let fixture = try CheckpointFixture("text-only")
    let folder = try TemporaryFolder()
    try fixture.write(to: folder)
    let path = folder.path + "/model.safetensors"
    let whole = FileManager.default.contents(atPath: path)!
    for count in Array(stride(from: 0, to: 3000, by: 37)) + [whole.count / 2, whole.count - 1] {
      try whole.prefix(count).write(to: URL(fileURLWithPath: path))
      #expect(throws: ConvertError.self) { try Checkpoint(folder: folder.path) }
    }
  }
}
