import Testing

@testable import PIOFormat

@Test(arguments: 0..<24)
func aFileHoldsWhatWasWritten(seed: Int) throws {
  let sample = Sample(seed: UInt64(seed))
  try withTemporaryFolder { folder in
    try sample.write(to: folder + "/a.piom")
    let file = try ModelFile(path: folder + "/a.piom")
    #expect(file.config == sample.config)
    #expect(file.provenance == sample.provenance)
    #expect(Array(file.tokenizerSection) == sample.tokenizer)
    #expect(file.tensors.map(\.spec) == tensorSpecs(for: sample.config))
    #expect(file.tensors.map(\.encoding) == sample.encodings)
    for index in file.tensors.indices {
      let data = file.data(index)
      #expect(Array(data) == sample.data[index])
      #expect(Int(bitPattern: data.baseAddress) % 64 == 0)
      #expect(file.index(of: file.tensors[index].spec.name) == index)
    }
    #expect(file.index(of: "text.layers.9.mlp") == nil)
    try file.verify()
  }
}

@Test func theSameInputGivesTheSameBytesWhateverTheChunks() throws {
  let sample = Sample(seed: 3, vision: true)
  try withTemporaryFolder { folder in
    try sample.write(to: folder + "/a.piom", seed: 1)
    try sample.write(to: folder + "/b.piom", seed: 2)
    let second = try readFile(folder + "/b.piom")
    try #expect(readFile(folder + "/a.piom") == second)
  }
}

@Test func everySectionStartsOn64KiB() throws {
  let sample = Sample(seed: 3, vision: true)
  try withTemporaryFolder { folder in
    try sample.write(to: folder + "/a.piom")
    let file = try ModelFile(path: folder + "/a.piom")
    var last: TensorSection?
    for tensor in file.tensors {
      if tensor.spec.section != last { #expect(tensor.offset % 65_536 == 0) }
      last = tensor.spec.section
    }
    let end = file.tensors.last!
    #expect(file.byteCount == end.offset + end.byteCount)
  }
}
