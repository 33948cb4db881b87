"""Writes the peer's files from a .piom file: its decoder, and its vision tower twice.

The bits are the same where a GGUF type has them (see blocks.py). Llama's queries and keys change the order of
their rows, because llama.cpp rotates neighbours there where Hugging Face rotates halves; in Qwen's
architectures it rotates halves, too. A vision tower becomes an mmproj file, quantized as it is or as f16.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
import piom  # noqa: E402
import towers  # noqa: E402
from blocks import add, finish  # noqa: E402
from vocabulary import add_vocabulary, family  # noqa: E402

FILES = {"text": "text.gguf"} | {kind: f"mmproj-{kind}.gguf" for kind in towers.KINDS}
LAYER = {
    "attention_norm": "attn_norm", "attention.query": "attn_q", "attention.key": "attn_k",
    "attention.value": "attn_v", "attention.output": "attn_output", "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm", "mlp_norm": "ffn_norm", "mlp.gate": "ffn_gate",
    "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip


def interleaved(heads, head_dim):
    """Row order that brings (i, i + head_dim/2) side by side in each head."""
    rows = np.arange(heads * head_dim).reshape(heads, 2, head_dim // 2)
    return rows.transpose(0, 2, 1).reshape(-1)


def architecture(metadata):
    """As llama.cpp calls the decoder."""
    if metadata.get("text.query_key_norm"):
        return "qwen3vl"
    return "qwen2vl" if "text.rope_sections" in metadata else "llama"


def write_text(model, path):
    m = {key.removeprefix("text."): value for key, value in model.metadata.items()}
    name = architecture(model.metadata)
    writer = gguf.GGUFWriter(path, name)
    writer.add_context_length(m["max_positions"])
    writer.add_embedding_length(m["dim"])
    writer.add_block_count(m["layer_count"])
    writer.add_feed_forward_length(m["hidden_dim"])
    writer.add_head_count(m["head_count"])
    writer.add_head_count_kv(m["kv_head_count"])
    writer.add_key_length(m["head_dim"])
    writer.add_value_length(m["head_dim"])
    writer.add_rope_dimension_count(m["head_dim"])
    writer.add_rope_freq_base(m["rope_theta"])
    writer.add_layer_norm_rms_eps(m["rms_norm_epsilon"])
    writer.add_vocab_size(m["vocab_size"])
    orders = {}
    if name == "llama":
        orders = {
            "attention.query": interleaved(m["head_count"], m["head_dim"]),
            "attention.key": interleaved(m["kv_head_count"], m["head_dim"]),
        }
    else:
        writer.add_array(f"{name}.rope.dimension_sections", [*m["rope_sections"], 0])
    if name == "qwen3vl":
        writer.add_uint32(f"{name}.n_deepstack_layers", len(m.get("vision.deepstack_layers", [])))
    add_vocabulary(writer, model.metadata)
    tensors = model.by_name
    add(writer, "token_embd.weight", tensors["text.embedding"])
    for layer in range(m["layer_count"]):
        for ours, theirs in LAYER.items():
            for part in ["weight", "bias"]:
                tensor = tensors.get(f"text.layers.{layer}.{ours}.{part}")
                if tensor:
                    add(writer, f"blk.{layer}.{theirs}.{part}", tensor, orders.get(ours))
    add(writer, "output_norm.weight", tensors["text.norm.weight"])
    if not m["tied_head"]:
        add(writer, "output.weight", tensors["text.head.weight"])
    finish(writer)


def write_all(piom_path, folder):
    """Writes what `compare.py` needs beside each other, in a new folder."""
    model = piom.Model(piom_path)
    folder.mkdir()
    write_text(model, folder / FILES["text"])
    if "vision.dim" in model.metadata:
        for name, kind in towers.KINDS.items():
            towers.WRITERS[family(model.metadata)](model, folder / FILES[name], kind)


def paths(folder):
    return {name: folder / file for name, file in FILES.items() if (folder / file).exists()}
