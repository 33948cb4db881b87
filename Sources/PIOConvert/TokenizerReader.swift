import PIOBase
import PIOFormat
import PIOText

/// A checkpoint's tokenizer, ready for the file.
public struct ConvertedTokenizer: Equatable, Sendable {
  /// The bytes of the tokenizer section.
  public let section: [UInt8]
  public let special: SpecialTokens
  public let prompt: PromptTemplate

  /// `prompt`: as published, its images `<image>`; `imageTokenID`: what stands for one here.
  init(
    _ contents: TokenizerContents, special: SpecialTokens, prompt: PromptTemplate,
    imageTokenID: Int32?
  ) throws(TokenizerConvertError) {
    var (special, prompt) = (special, prompt)
    special.image = imageTokenID ?? -1
    if let imageTokenID {
      let text = String(decoding: contents.pieces[Int(imageTokenID)].text, as: UTF8.self)
      prompt.setImageToken(text)
    }
    do { section = try contents.encoded() } catch { throw .section(error) }
    self.special = special
    self.prompt = prompt
  }

  /// The ids of a text in the middle of a prompt; special tokens are recognised.
  func tokens(of text: String, vocabSize: Int) throws(TokenizerConvertError) -> [Int32] {
    let result = section.withUnsafeBytes { bytes -> Result<[Int32], TokenizerSectionError> in
      do throws(TokenizerSectionError) {
        let tokenizer = Tokenizer(try TokenizerTables(bytes, vocabSize: vocabSize))
        return .success(tokenizer.encode(text, addSpecialTokens: false, continues: true))
      } catch {
        return .failure(error)
      }
    }
    do { return try result.get() } catch { throw .section(error) }
  }
}

/// Reads the tokenizer of a Hugging Face folder: `tokenizer.json`, and the special tokens and the
/// chat template of the files beside it.
///
/// `chatTemplate`: a name of `chatTemplateNames`; nil: the folder's own, which must be a known one.
/// `imageTokenID`: what the checkpoint's `<image>` is; nil: it takes no images.
/// Throws for anything the runtime would not do exactly as the reference does.
public func readTokenizer(
  folder: String, chatTemplate: String?, vocabSize: Int, imageTokenID: Int?
) throws(TokenizerConvertError) -> ConvertedTokenizer {
  if let id = imageTokenID, id < 0 || id >= min(vocabSize, Int(Int32.max)) {
    throw .idOutOfRange(token: imagePlaceholder, id: id, vocabSize: vocabSize)
  }
  let imageTokenID = imageTokenID.map { Int32($0) }
  let files = TokenizerFolder(path: folder)
  let config = try files.json("tokenizer_config.json")
  guard let json = try files.json(TokenizerFolder.main) else {
    throw .invalid(file: TokenizerFolder.main, problem: "is missing")
  }
  var builder = try TokenizerBuilder(json, vocabSize: vocabSize)
  let named = try namedTokens(files, config)
  try builder.readAddedTokens(json, config: config, named: named)
  if let imageTokenID { try builder.ensureImageToken(imageTokenID) }
  let contents = try builder.finished()

  let prompt = try readPrompt(files, config, name: chatTemplate, hasImages: imageTokenID != nil)
  var special = SpecialTokens()
  special.begin =
    named.first { $0.role == "bos_token" }.flatMap { builder.id(of: $0.content) } ?? -1
  special.end = try endTokens(files, builder, named, prompt, vocabSize: vocabSize)
  return try ConvertedTokenizer(
    contents, special: special, prompt: prompt, imageTokenID: imageTokenID)
}

/// A token that the configuration gives a role: `bos_token`, `eos_token`, …
struct NamedToken {
  let role: String
  let content: [UInt8]
}

private func namedTokens(
  _ files: TokenizerFolder, _ config: PieceJSON?
) throws(TokenizerConvertError) -> [NamedToken] {
  let map = try files.json("special_tokens_map.json")
  let roles = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token"]
  var found: [NamedToken] = []
  for role in roles {
    for source in [config, map] {
      guard let value = source?.member(role), !found.contains(where: { $0.role == role }),
        let content = value.bytes ?? value["content"]?.bytes
      else { continue }
      found.append(NamedToken(role: role, content: content))
    }
  }
  return found
}

/// `generation_config.json` (or `config.json`), the tokenizer's own, and what ends a turn.
private func endTokens(
  _ files: TokenizerFolder, _ builder: TokenizerBuilder, _ named: [NamedToken],
  _ prompt: PromptTemplate, vocabSize: Int
) throws(TokenizerConvertError) -> [Int32] {
  var ids: [Int32] = []
  let name = "generation_config.json"
  let model = try files.json("config.json")
  let sources = [try files.json(name), model?.member("text_config"), model]
  if let value = sources.lazy.compactMap({ $0?.member("eos_token_id") }).first {
    for item in value.array ?? [value] {
      guard let id = item.id, id >= 0, Int(id) < vocabSize else {
        throw .invalid(file: name, problem: "eos_token_id is not an id below \(vocabSize)")
      }
      ids.append(id)
    }
  }
  if let eos = named.first(where: { $0.role == "eos_token" }), let id = builder.id(of: eos.content)
  {
    ids.append(id)
  }
  if let id = builder.specialID(startingOneIn: prompt.assistantSuffix) { ids.append(id) }
  return ids.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
}

private func readPrompt(
  _ files: TokenizerFolder, _ config: PieceJSON?, name: String?, hasImages: Bool
) throws(TokenizerConvertError) -> PromptTemplate {
  if let name {
    guard let template = namedChatTemplate(name) else { throw .noSuchChatTemplate(name: name) }
    return template
  }
  guard let (file, jinja) = try files.chatTemplate(config) else {
    // A decoder alone without a template is a base model, which takes the text as it is.
    if hasImages { throw .noChatTemplate }
    return PromptTemplate()
  }
  guard let template = recognisedChatTemplate(jinja) else { throw .unknownChatTemplate(file: file) }
  return template
}
