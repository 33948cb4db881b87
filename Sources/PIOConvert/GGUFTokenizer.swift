import PIOFormat

extension GGUFFile {
  /// The tokenizer and the prompt template of the metadata.
  ///
  /// Brought into the form of a `tokenizer.json` and read as one, so that there is one way from
  /// pieces to tables. `hasImages`: some id must become `<image>`.
  func tokenizer(
    chatTemplate: String?, vocabSize: Int, hasImages: Bool
  ) throws(ConvertError) -> ConvertedTokenizer {
    var vocabulary = try GGUFVocabulary(self, vocabSize: vocabSize)
    let image = hasImages ? try vocabulary.claimImageToken() : nil
    do throws(TokenizerConvertError) {
      let json = try vocabulary.tokenizerJSON()
      var builder = try TokenizerBuilder(json, vocabSize: vocabSize)
      try builder.readAddedTokens(json, config: nil, named: [])
      let prompt = try prompt(name: chatTemplate, hasImages: hasImages)
      var special = SpecialTokens()
      special.begin = vocabulary.begin ?? -1
      special.end = vocabulary.ends
      if let id = builder.specialID(startingOneIn: prompt.assistantSuffix) {
        special.end.append(id)
      }
      special.end = special.end.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
      return try ConvertedTokenizer(
        try builder.finished(), special: special, prompt: prompt, imageTokenID: image)
    } catch {
      throw .tokenizer(error.inFile(name))
    }
  }

  private func prompt(
    name: String?, hasImages: Bool
  ) throws(TokenizerConvertError) -> PromptTemplate {
    if let name {
      guard let template = namedChatTemplate(name) else { throw .noSuchChatTemplate(name: name) }
      return template
    }
    let key = "tokenizer.chat_template"
    guard let jinja = try? text(key) else {
      guard !has(key) else { throw .invalid(file: self.name, problem: "\(key) is not UTF-8 text") }
      // A decoder alone without a template is a base model, which takes the text as it is.
      if hasImages { throw .noChatTemplate }
      return PromptTemplate()
    }
    guard let template = recognisedChatTemplate(jinja) else {
      throw .unknownChatTemplate(file: self.name)
    }
    return template
  }
}

extension TokenizerConvertError {
  /// The same with the name of the file that the vocabulary really comes from.
  fileprivate func inFile(_ name: String) -> TokenizerConvertError {
    switch self {
    case .invalid(_, let problem): .invalid(file: name, problem: problem)
    case .unsupported(_, let what): .unsupported(file: name, what: what)
    default: self
    }
  }
}
