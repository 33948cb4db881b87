import PIOBase
@testable import PIOConvert
@testable import PIOFormat

private let files = Files(["config.json", "preprocessor_config.json", "processor_config.json"])

/// The input: the JSON files that say what a checkpoint is. What is accepted has tensors whose sizes can be counted.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  files.fill(UnsafeBufferPointer(start: input, count: count))
  do {
    let read = try CheckpointConfig(folder: files.folder)
    var config = ModelConfig(
      text: read.text, vision: read.vision, prompt: PromptTemplate(), specialTokens: SpecialTokens()
    )
    config.specialTokens.image = Int32(read.imageTokenID ?? -1)
    try config.validated()
    guard config.text.layerCount <= 64 else { return 0 }
    for spec in tensorSpecs(for: config) {
      precondition(
        spec.shape.rows > 0 && spec.shape.columns > 0, "a tensor without numbers: \(spec.name)")
    }
  } catch {
    checkLine(error)
  }
  return 0
}
