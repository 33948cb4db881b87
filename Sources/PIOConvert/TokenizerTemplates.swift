import PIOBase
import PIOFormat

/// The names `--chat-template` takes.
public var chatTemplateNames: [String] { namedTemplates.map(\.name) }

/// The template of that name, or nil.
public func namedChatTemplate(_ name: String) -> PromptTemplate? {
  namedTemplates.first { $0.name == name }
}

/// The template that a checkpoint's Jinja text is, or nil where it is none of the known ones.
///
/// Two texts count as the same where all their string literals and all text outside of tags are
/// equal, in order; white space, comments and the messages of exceptions do not count. So a changed
/// role name, separator or system sentence makes a text unknown.
func recognisedChatTemplate(_ jinja: String) -> PromptTemplate? {
  let literals = jinjaLiterals(jinja)
  guard let known = publishedTemplates.first(where: { jinjaLiterals($0.jinja) == literals })
  else { return nil }
  return namedChatTemplate(known.name)
}

private let namedTemplates: [PromptTemplate] = [
  template("llava") {
    $0.systemSuffix = " "
    $0.userPrefix = "USER: "
    $0.userSuffix = " "
    $0.assistantPrefix = "ASSISTANT:"
    $0.assistantSuffix = " "
  },
  template("vicuna") {
    $0.systemSuffix = " "
    $0.userPrefix = "USER: "
    $0.assistantPrefix = " ASSISTANT:"
    $0.assistantSuffix = "</s>"
  },
  template("vicuna_v1") {
    $0.defaultSystem =
      "A chat between a curious human and an artificial intelligence assistant. "
      + "The assistant gives helpful, detailed, and polite answers to the human's questions."
    $0.systemSuffix = " "
    $0.userPrefix = "USER: "
    $0.assistantPrefix = " ASSISTANT:"
    $0.assistantSuffix = "</s>"
  },
  template("vicuna_v1.1") {
    $0.defaultSystem =
      "A chat between a curious user and an artificial intelligence assistant. "
      + "The assistant gives helpful, detailed, and polite answers to the user's questions."
    $0.userPrefix = " USER: "
    $0.assistantPrefix = " ASSISTANT:"
    $0.assistantSuffix = "</s>"
  },
  template("llama2") {
    $0.systemPrefix = "<s>[INST] <<SYS>>\n"
    $0.systemSuffix = "\n<</SYS>>\n\n"
    $0.userPrefix = "<s>[INST] "
    $0.assistantPrefix = " [/INST]"
    $0.assistantSuffix = " </s>"
    $0.addsBeginToken = false
  },
  template("llama3") {
    $0.systemPrefix = "<|start_header_id|>system<|end_header_id|>\n\n"
    $0.systemSuffix = "<|eot_id|>"
    $0.userPrefix = "<|start_header_id|>user<|end_header_id|>\n\n"
    $0.userSuffix = "<|eot_id|>"
    $0.assistantPrefix = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    $0.assistantSuffix = "<|eot_id|>"
  },
  template("mistral") {
    $0.systemPrefix = " [INST] "
    $0.systemSuffix = "\n\n"
    $0.userPrefix = " [INST] "
    $0.assistantPrefix = " [/INST]"
    $0.assistantSuffix = "</s>"
  },
  template("llava_mistral") {
    $0.systemPrefix = "<<SYS>>\n"
    $0.systemSuffix = "\n<</SYS>>\n\n"
    $0.userPrefix = "[INST] "
    $0.assistantPrefix = " [/INST]"
    $0.assistantSuffix = "</s> "
  },
  template("llava_llama3") {
    $0.systemPrefix = "<|start_header_id|>system<|end_header_id|>\n\n\n"
    $0.systemSuffix = "<|eot_id|>"
    $0.userPrefix = "<|start_header_id|>user<|end_header_id|>\n\n"
    $0.imagePart = "<image>"
    $0.textPrefix = "\n"
    $0.userSuffix = "<|eot_id|>"
    $0.assistantPrefix = "<|start_header_id|>assistant<|end_header_id|>\n\n"
    $0.assistantSuffix = "<|eot_id|>"
  },
  chatML("chatml", system: ""),
  chatML("qwen2", system: "You are a helpful assistant."),
  chatML(
    "smollm2",
    system: "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
  template("smolvlm") {
    $0.conversationPrefix = "<|im_start|>"
    $0.addsBeginToken = false
    $0.systemPrefix = "System: "
    $0.systemSuffix = "<end_of_utterance>\n"
    $0.userPrefix = "User:"
    $0.imagePart = "<image>"
    $0.bareTextPrefix = " "
    $0.userSuffix = "<end_of_utterance>\n"
    $0.assistantPrefix = "Assistant:"
    $0.assistantSuffix = "<end_of_utterance>\n"
  },
  chatML(
    "qwen2_vl", system: "You are a helpful assistant.",
    image: "<|vision_start|><image><|vision_end|>"),
  chatML("qwen3_vl", system: "", image: "<|vision_start|><image><|vision_end|>"),
  template("zephyr") {
    $0.systemPrefix = "<|system|>\n"
    $0.systemSuffix = "</s>\n"
    $0.userPrefix = "<|user|>\n"
    $0.userSuffix = "</s>\n"
    $0.assistantPrefix = "<|assistant|>\n"
    $0.assistantSuffix = "</s>\n"
    $0.addsBeginToken = false
  },
  template("plain") { _ in },
]

private func template(
  _ name: String, _ fill: (inout PromptTemplate) -> Void
) -> PromptTemplate {
  var template = PromptTemplate()
  template.name = name
  fill(&template)
  return template
}

private func chatML(_ name: String, system: String, image: String? = nil) -> PromptTemplate {
  template(name) {
    if let image { $0.imagePart = image }
    $0.defaultSystem = system
    $0.systemPrefix = "<|im_start|>system\n"
    $0.systemSuffix = "<|im_end|>\n"
    $0.userPrefix = "<|im_start|>user\n"
    $0.userSuffix = "<|im_end|>\n"
    $0.assistantPrefix = "<|im_start|>assistant\n"
    $0.assistantSuffix = "<|im_end|>\n"
    $0.addsBeginToken = false
  }
}
