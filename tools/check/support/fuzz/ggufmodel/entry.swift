import Glibc
import PIOBase
@testable import PIOConvert
@testable import PIOFormat

private let files = Files(["model.gguf"])

/// The input is the start of a GGUF file, a decoder's or an `mmproj` file's; the data that its directory promises is a
/// hole. What its metadata make of a model is within the format's bounds, and every tensor of it has a name and a shape.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ input: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  let bytes = UnsafeBufferPointer(start: input, count: count)
  let path = files.folder + "/model.gguf"
  files.fill(whole: bytes)
  do throws(GGUFError) {
    _ = try GGUFHeader(Array(bytes), fileByteCount: count)
  } catch {
    // Data alone: a front that goes on for megabytes of a hole is read, zeros and all, and refused.
    guard case .truncated(let section, let needed, _) = error, section.hasPrefix("tensor "),
      needed < 1 << 34, needed > count, truncate(path, needed) == 0
    else { return 0 }
  }
  do {
    // The hole is not read: a mebibyte of it took most of the time.
    let file = try GGUFFile(path: path, firstReading: count)
    do throws(ConvertError) { try readVision(file) } catch { checkLine(error) }
    do throws(ConvertError) { try readDecoder(file) } catch { checkLine(error) }
  } catch {
    checkLine(error)
  }
  return 0
}

private func readVision(_ file: GGUFFile) throws(ConvertError) {
  let source = try file.visionSource(textDim: 64)
  var text = TextConfig()
  (text.dim, text.hiddenDim, text.layerCount, text.vocabSize) = (64, 64, 64, 64)
  (text.headCount, text.kvHeadCount, text.headDim, text.maxPositions) = (1, 1, 64, 64)
  if case .qwen2VL = source.config { text.ropeSections = [16, 8, 8] }
  if case .qwen25VL = source.config { text.ropeSections = [16, 8, 8] }
  if case .qwen3VL = source.config { text.ropeSections = [16, 8, 8] }
  try check(text, source)
}

private func readDecoder(_ file: GGUFFile) throws(ConvertError) {
  let text = try file.textConfig()
  let rotary = try file.rotary(text)
  precondition(rotary.frequencies.count == text.headDim / 2)
  try check(text, nil)
}

private func check(_ text: TextConfig, _ vision: (any VisionSource)?) throws(ConvertError) {
  var config = ModelConfig(
    text: text, vision: vision?.config, prompt: PromptTemplate(), specialTokens: SpecialTokens())
  config.specialTokens.image = vision == nil ? -1 : 0
  try config.validated()
  guard config.text.layerCount <= 64 else { return }
  for spec in tensorSpecs(for: config) {
    precondition(spec.shape.rows > 0 && spec.shape.columns > 0, "no numbers: \(spec.name)")
    guard spec.isVision, let vision else { continue }
    precondition(!vision.name(of: spec).isEmpty)
    precondition(spec.sourceShape(vision).allSatisfy { $0 > 0 }, "no numbers: \(spec.name)")
    _ = (vision.part(of: spec), vision.addedName(of: spec))
  }
}
