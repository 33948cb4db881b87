"""The tokens of a synthetic model for both programs: what stands around images, single bytes, and others.

The peer looks its markers up by their text, so these have the ids that they have in tools/synthetic. All
other tokens only have to be as many: prompts are token ids.
"""

import sys
from pathlib import Path

import gguf

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "synthetic"))
from tokenizer import KINDS, SPECIAL  # noqa: E402

# The peer wants a token for what ends SmolVLM's last row of tiles; the synthetic vocabulary has none.
PARAGRAPH = "\n\n"


def family(metadata):
    """As tools/synthetic calls its tokenizers: smol, qwen, or None for LLaVA and decoders alone."""
    if "image.longest_edge" in metadata:
        return "smol"
    return "qwen" if "vision.merge" in metadata else None


def special_tokens(metadata):
    return SPECIAL + KINDS[family(metadata)][0]


def token_ids(metadata, text):
    """What `pioedge run --raw` makes of letters that no rule joins: capitals, one byte each."""
    # LLaVA's tokenizer alone puts <s> in front of raw text.
    begin = [] if family(metadata) else [1]
    first = len(special_tokens(metadata))
    return begin + [first + byte for byte in text.encode()]


def spelled_out(metadata):
    """Tokens that the peer inserts and we lack, with those that pioedge has in their place."""
    newline = len(special_tokens(metadata)) + ord("\n")
    return {metadata["text.vocab_size"] - 1: [newline, newline]} if family(metadata) == "smol" else {}


def add_vocabulary(writer, metadata):
    kinds, count = gguf.TokenType, metadata["text.vocab_size"]
    tokens = [(name, kinds.CONTROL) for name in special_tokens(metadata)]
    tokens[0] = (tokens[0][0], kinds.UNKNOWN)
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(f"t{index}", kinds.NORMAL) for index in range(len(tokens), count)]
    for token in spelled_out(metadata):
        tokens[token] = (PARAGRAPH, kinds.NORMAL)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _ in tokens[:count]])
    writer.add_token_types([kind for _, kind in tokens[:count]])
    writer.add_token_scores([0.0] * count)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
