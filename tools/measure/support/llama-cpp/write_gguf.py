"""A .piom file's tensors as GGUF, bit for bit where a GGUF type holds the same codes and scales.

int4 with groups of 32 is Q4_0, int8 with groups of 32 is Q8_0: the same codes and f16 scales. Llama's
queries and keys change the order of their rows, because llama.cpp rotates neighbours where Hugging
Face rotates halves. A vision tower becomes an mmproj file, quantized as it is or as f16.
"""

import sys
from pathlib import Path

import gguf
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
import piom  # noqa: E402

Q4_0, Q8_0 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0
F16 = gguf.GGMLQuantizationType.F16
FILES = {"text": "text.gguf", "q8_0": "mmproj-q8_0.gguf", "f16": "mmproj-f16.gguf"}


def codes_and_scales(tensor):
    """Codes (rows, groups, 32) as stored and f16 scales (rows, groups, 1) of an int4 or int8 tensor."""
    if tensor.group != 32 or tensor.columns % 32:
        raise SystemExit(f"{tensor.name}: only groups of 32 have a counterpart in GGUF")
    raw, groups = np.frombuffer(tensor.data, np.uint8), tensor.columns // 32
    if tensor.layout == "rows":
        rows = raw.reshape(tensor.rows, groups * 34)
        scales = np.ascontiguousarray(rows[:, groups * 32 :]).view("<f2")
        return rows[:, : groups * 32].reshape(tensor.rows, groups, 32), scales[..., None]
    blocks = raw.reshape(-(-tensor.rows // 16), groups, -1)
    if tensor.kind == "int8":
        codes = blocks[..., :512].reshape(len(blocks), groups, 8, 16, 4)
    else:
        packed = blocks[..., :256].reshape(len(blocks), groups, 4, 16, 4)
        codes = np.concatenate([packed & 15, packed >> 4], axis=2)
    codes = codes.transpose(0, 3, 1, 2, 4).reshape(-1, groups, 32)
    scales = np.ascontiguousarray(blocks[..., -32:]).view("<f2").transpose(0, 2, 1)
    return codes[: tensor.rows], scales.reshape(-1, groups, 1)[: tensor.rows]


def block_bytes(tensor, order=None):
    """The rows of a quantized tensor as Q4_0 or Q8_0 blocks, in `order` where that is given."""
    codes, scales = codes_and_scales(tensor)
    if order is not None:
        codes, scales = codes[order], scales[order]
    scales = np.ascontiguousarray(scales).view(np.uint8)
    if tensor.kind == "int8":
        return np.concatenate([scales, codes ^ 0x80], axis=2).reshape(tensor.rows, -1), Q8_0
    packed = codes[..., :16] | codes[..., 16:] << 4
    return np.concatenate([scales, packed], axis=2).reshape(tensor.rows, -1), Q4_0


def interleaved(heads, head_dim):
    """Row order that brings (i, i + head_dim/2) side by side in each head."""
    rows = np.arange(heads * head_dim).reshape(heads, 2, head_dim // 2)
    return rows.transpose(0, 2, 1).reshape(-1)


def add(writer, name, tensor, order=None, kind=None):
    if tensor.kind in ("int4", "int8") and kind is None:
        data, raw_type = block_bytes(tensor, order)
        writer.add_tensor(name, data, raw_dtype=raw_type)
        return
    values = tensor.array()
    if order is not None:
        values = values[order]
    if tensor.rows == 1:
        values = values[0]
    writer.add_tensor(name, values.astype(np.float16) if kind == F16 else values)


def add_vocabulary(writer, count):
    """Pieces that only have to be as many: the prompts are token ids."""
    kinds = gguf.TokenType
    tokens = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    tokens += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    tokens += [(f"t{index}", kinds.NORMAL) for index in range(len(tokens), count)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([piece for piece, _ in tokens[:count]])
    writer.add_token_types([kind for _, kind in tokens[:count]])
    writer.add_token_scores([0.0] * count)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_text(model, path):
    m = {key.removeprefix("text."): value for key, value in model.metadata.items()}
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(m["max_positions"])
    writer.add_embedding_length(m["dim"])
    writer.add_block_count(m["layer_count"])
    writer.add_feed_forward_length(m["hidden_dim"])
    writer.add_head_count(m["head_count"])
    writer.add_head_count_kv(m["kv_head_count"])
    writer.add_rope_dimension_count(m["head_dim"])
    writer.add_rope_freq_base(m["rope_theta"])
    writer.add_layer_norm_rms_eps(m["rms_norm_epsilon"])
    writer.add_vocab_size(m["vocab_size"])
    add_vocabulary(writer, m["vocab_size"])
    names = {
        "attention_norm": "attn_norm", "attention.query": "attn_q", "attention.key": "attn_k",
        "attention.value": "attn_v", "attention.output": "attn_output", "mlp_norm": "ffn_norm",
        "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
    }  # fmt: skip
    orders = {
        "attention.query": interleaved(m["head_count"], m["head_dim"]),
        "attention.key": interleaved(m["kv_head_count"], m["head_dim"]),
    }
    tensors = model.by_name
    add(writer, "token_embd.weight", tensors["text.embedding"])
    for layer in range(m["layer_count"]):
        for ours, theirs in names.items():
            tensor = tensors[f"text.layers.{layer}.{ours}.weight"]
            add(writer, f"blk.{layer}.{theirs}.weight", tensor, orders.get(ours))
    add(writer, "output_norm.weight", tensors["text.norm.weight"])
    if not m["tied_head"]:
        add(writer, "output.weight", tensors["text.head.weight"])
    finish(writer)


def write_vision(model, path, kind=None):
    """`kind`: F16, or None for the codes as they are (the patch embedding is f16 either way)."""
    m, tensors = model.metadata, model.by_name
    layers = m["vision.layer_count"]
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", False)  # CLIP's quick GELU
    numbers = {
        "image_size": m["vision.image_size"], "patch_size": m["vision.patch_size"],
        "embedding_length": m["vision.dim"], "feed_forward_length": m["vision.hidden_dim"],
        # It leaves out the last layer, whose output LLaVA does not use.
        "block_count": layers + 1, "attention.head_count": m["vision.head_count"],
        "projection_dim": m["projector.hidden_dim"],
    }  # fmt: skip
    for key, value in numbers.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    epsilon = m["vision.layer_norm_epsilon"]
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", epsilon)
    writer.add_array("clip.vision.image_mean", [float(x) for x in m["image.mean"]])
    writer.add_array("clip.vision.image_std", [float(x) for x in m["image.std"]])
    patch, side = tensors["vision.patch_embedding.weight"], m["vision.patch_size"]
    values = patch.array().reshape(-1, 3, side, side)
    writer.add_tensor("v.patch_embd.weight", values.astype(np.float16))
    writer.add_tensor("v.class_embd", tensors["vision.class_embedding"].array()[0])
    add(writer, "v.position_embd.weight", tensors["vision.position_embedding"])
    for part in ["weight", "bias"]:
        add(writer, f"v.pre_ln.{part}", tensors[f"vision.pre_norm.{part}"])
    names = {
        "attention_norm": "ln1", "attention.query": "attn_q", "attention.key": "attn_k",
        "attention.value": "attn_v", "attention.output": "attn_out", "mlp_norm": "ln2",
        "mlp.up": "ffn_up", "mlp.down": "ffn_down",
    }  # fmt: skip
    for layer in range(layers + 1):
        for ours, theirs in names.items():
            for part in ["weight", "bias"]:
                tensor = tensors[f"vision.layers.{min(layer, layers - 1)}.{ours}.{part}"]
                add(writer, f"v.blk.{layer}.{theirs}.{part}", tensor, kind=of(tensor, kind))
    for theirs, ours in [("mm.0", "projector.linear1"), ("mm.2", "projector.linear2")]:
        for part in ["weight", "bias"]:
            tensor = tensors[f"{ours}.{part}"]
            add(writer, f"{theirs}.{part}", tensor, kind=of(tensor, kind))
    finish(writer)


def of(tensor, kind):
    """Small tensors stay f32."""
    return kind if tensor.rows > 1 else None


def write_all(piom_path, folder):
    """Writes what `compare.py` needs beside each other, in a new folder."""
    model = piom.Model(piom_path)
    folder.mkdir()
    write_text(model, folder / FILES["text"])
    if "vision.dim" in model.metadata:
        write_vision(model, folder / FILES["q8_0"])
        write_vision(model, folder / FILES["f16"], F16)


def paths(folder):
    return {name: folder / file for name, file in FILES.items() if (folder / file).exists()}
