import PIOBase

/// `tokenizer.ggml.pre`: how a byte-level tokenizer cuts a text into words.
enum GGUFPreTokenizer {
  case none
  case gpt2
  case digitsThenGPT2
  case llama3(ignoresMerges: Bool)
  case qwen2

  init(_ file: GGUFFile) throws(ConvertError) {
    let key = "tokenizer.ggml.pre"
    guard let name = try file.text(key) else {
      throw file.failure(key, "is missing: needed to know how text is cut into words")
    }
    switch name {
    case "gpt-2", "phi-2", "olmo", "jais", "mpt": self = .gpt2
    case "smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b":
      self = .digitsThenGPT2
    case "llama3", "llama-v3", "llama-bpe", "falcon3": self = .llama3(ignoresMerges: true)
    case "smaug-bpe", "dbrx": self = .llama3(ignoresMerges: false)
    case "qwen2", "deepseek-r1-qwen", "megrez": self = .qwen2
    default: throw file.failure(key, "'\(name.shortened)' is not supported")
    }
  }

  var ignoresMerges: Bool { if case .llama3(true) = self { true } else { false } }
  var addsBegin: Bool { ignoresMerges }

  /// As `tokenizer.json` has it.
  var json: PieceJSON {
    var parts: [PieceJSON] = []
    switch self {
    case .none, .gpt2: break
    case .digitsThenGPT2: parts.append(["type": "Digits", "individual_digits": true])
    case .llama3: parts.append(split(modernPattern(numbers: #"\p{N}{1,3}"#)))
    case .qwen2: parts.append(split(modernPattern(numbers: #"\p{N}"#)))
    }
    parts.append(
      ["type": "ByteLevel", "add_prefix_space": false, "use_regex": .bool(splitsAsGPT2)])
    return ["type": "Sequence", "pretokenizers": .array(parts)]
  }

  var normalizer: PieceJSON { if case .qwen2 = self { ["type": "NFC"] } else { .null } }

  private var splitsAsGPT2: Bool {
    switch self {
    case .none, .gpt2, .digitsThenGPT2: true
    case .llama3, .qwen2: false
    }
  }

  private func split(_ pattern: String) -> PieceJSON {
    [
      "type": "Split", "pattern": ["Regex": .string(Array(pattern.utf8))],
      "behavior": "Isolated", "invert": false,
    ]
  }
}
