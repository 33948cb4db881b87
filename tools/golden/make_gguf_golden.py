#!/usr/bin/env python3
"""Writes Tests/Golden/gguf and the gguf_* folders of Tests/Golden/tokenizers.

    tools/golden/make_gguf_golden.py        # needs what tools/build/python-env installs

gguf/kinds.gguf              a random Llama decoder whose matrices have every type we read
gguf/kinds/golden.*          what transformers computes with it, as make_model_golden.py writes it,
                             and under "tensors" SHA-256 of the f32 numbers that the package gguf
                             dequantizes, queries and keys in the order of Hugging Face
gguf/NAME.gguf, NAME-mmproj.gguf   checkpoint NAME of Tests/Golden/checkpoints as llama.cpp's
                             converters lay it out
tokenizers/gguf_NAME         vocabularies alone, and what tokenizers or sentencepiece make of texts
"""

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, RopeScalingType, quants
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

import make_model_golden
import make_tokenizer_golden as texts_of

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "Tests/Golden/gguf"
TOKENIZERS = ROOT / "Tests/Golden/tokenizers"
CHECKPOINTS = ROOT / "Tests/Golden/checkpoints"

TEXT_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


def interleaved(weight, heads):
    """The halves of every head alternating, as llama.cpp's rotation wants them."""
    rows = weight.shape[0]
    split = weight.reshape(heads, 2, rows // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


def halves(weight, heads):
    """The inverse of `interleaved`."""
    rows = weight.shape[0]
    split = weight.reshape(heads, rows // heads // 2, 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape)


# --- vocabularies


def add_byte_level(writer, saved, pre, **flags):
    """`saved`: a tokenizer.json with byte-level BPE."""
    model = saved["model"]
    pieces = {i: (p, NORMAL) for p, i in model["vocab"].items()}
    for token in saved["added_tokens"]:
        kind = CONTROL if token["special"] else USER_DEFINED
        pieces[token["id"]] = (token["content"], kind)
    count = max(pieces) + 1
    pieces = [pieces.get(i, (f"[PAD{i}]", UNUSED)) for i in range(count)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([p for p, _ in pieces])
    writer.add_token_types([k for _, k in pieces])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    for key, value in flags.items():
        getattr(writer, f"add_{key}")(value)


def add_sentence_pieces(writer, pieces):
    """`pieces`: (piece, score, kind)."""
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([p for p, _, _ in pieces])
    writer.add_token_scores([s for _, s, _ in pieces])
    writer.add_token_types([k for _, _, k in pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def vocabulary_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, "llama")
    return writer


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def byte_level_vocabularies(all_texts):
    """gpt2 and qwen2 without the added tokens that no GGUF can say; the others as they are."""
    for name, pre in [("gpt2", "gpt-2"), ("qwen2", "qwen2"), ("digits", "smollm"), ("llama3", "llama-bpe")]:
        saved = json.loads((TOKENIZERS / name / "tokenizer.json").read_text())
        folder = TOKENIZERS / f"gguf_{name}"
        writer = vocabulary_file(folder / "tokenizer.gguf")
        if name in ("gpt2", "qwen2"):
            saved["added_tokens"] = [t for t in saved["added_tokens"] if t["special"]]
            tokenizer = Tokenizer.from_str(json.dumps(saved))
            golden = texts_of.golden(tokenizer, all_texts)
            texts_of.write(folder / "golden.json", golden)
        flags = {"bos_token_id": saved["model"]["vocab"].get("<s>")}
        if name == "llama3":
            flags = {"bos_token_id": next(t["id"] for t in saved["added_tokens"] if t["content"] == "<s>")}
        add_byte_level(writer, saved, pre, **{k: v for k, v in flags.items() if v is not None})
        finish(writer)


def sentence_piece_vocabulary(all_texts):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts_of.CORPUS * 3), model_writer=model, model_type="bpe",
        vocab_size=640, byte_fallback=True, normalization_rule_name="identity",
        remove_extra_whitespaces=False, add_dummy_prefix=True, split_digits=True,
        allow_whitespace_only_pieces=True, character_coverage=1.0, minloglevel=2,
        user_defined_symbols=["[MASK]", "foo"],
    )
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    pieces = []
    for i in range(processor.vocab_size()):
        kind = NORMAL
        if processor.is_unknown(i):
            kind = UNKNOWN
        elif processor.is_control(i):
            kind = CONTROL
        elif processor.is_byte(i):
            kind = BYTE
        elif processor.id_to_piece(i) in ("[MASK]", "foo"):
            kind = USER_DEFINED
        pieces.append((processor.id_to_piece(i), processor.get_score(i), kind))
    folder = TOKENIZERS / "gguf_spm"
    writer = vocabulary_file(folder / "tokenizer.gguf")
    add_sentence_pieces(writer, pieces)
    finish(writer)

    # Special and user-defined tokens inside a text count as such, and a text goes on behind them
    # as one begins: with a space in front. The library itself takes the first as plain text.
    names = [p for p, _, kind in pieces if kind in (UNKNOWN, CONTROL, USER_DEFINED)]
    cut = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def encode(text):
        ids = []
        for part in cut.split(text):
            if part in names:
                ids.append(processor.piece_to_id(part))
            elif part:
                ids += processor.encode(part)
        return ids

    ids = [[1] + encode(text) for text in all_texts]
    decoded = {}
    for i, (found, text) in enumerate(zip(ids, all_texts)):
        back = texts_of_pieces(processor, pieces, found)
        if back != text:
            decoded[str(i)] = back
    golden = {
        "ids": [texts_of.packed(i) for i in ids],
        "decoded": decoded,
        "bare": [texts_of.packed(encode(t)) for t in all_texts[:20]],
        "sequences": [],
    }
    texts_of.write(folder / "golden.json", golden)


def texts_of_pieces(processor, pieces, ids):
    """The text of ids without special tokens: each stretch by the library, one space dropped."""
    out = b""
    for i in ids:
        piece, _, kind = pieces[i]
        if kind in (UNKNOWN, CONTROL):
            continue
        if kind == BYTE:
            out += bytes([int(piece[3:5], 16)])
        else:
            out += piece.replace("▁", " ").encode()
    text = out.decode(errors="replace")
    return text[1:] if text.startswith(" ") else text


# --- every kind


def block_bytes(rng, kind, rows, columns, deviation):
    """Random blocks of a K-quant whose weights have about this deviation."""
    count = rows * columns // 256

    def half(value):
        return np.full(count, value, np.float16).view(np.uint8).reshape(count, 2)

    def spread(low, high, size):
        return rng.integers(low, high, (count, size), dtype=np.uint8)

    if kind in (GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K):
        codes = 16 if kind == GGMLQuantizationType.Q4_K else 32
        step = deviation / (codes / np.sqrt(12)) / 32
        # Packed 6-bit scales and minima: any bytes are some, and the minima balance the codes.
        scales = spread(0, 256, 12)
        parts = [half(step), half(step * codes / 2), scales]
        parts += [spread(0, 256, 32)] if codes == 32 else []
        parts += [spread(0, 256, 128)]
    else:
        step = deviation / (64 / np.sqrt(12)) / 64
        scales = rng.integers(-127, 128, (count, 16)).astype(np.int8).view(np.uint8)
        parts = [spread(0, 256, 128), spread(0, 256, 64), scales, half(step)]
    return np.concatenate(parts, axis=1).reshape(rows, -1)


def stored(rng, kind, weight):
    if kind in (GGMLQuantizationType.Q4_K, GGMLQuantizationType.Q5_K, GGMLQuantizationType.Q6_K):
        return block_bytes(rng, kind, *weight.shape, weight.std())
    return quants.quantize(weight, kind)


KINDS = {  # q, k, v, o, gate, up, down of each layer
    0: "Q4_K Q5_K Q6_K Q4_0 Q4_0 Q4_1 Q5_0",
    1: "Q4_0 Q4_1 Q5_1 Q5_1 Q6_K Q5_K Q8_0",
    2: "Q8_0 F16 BF16 F32 Q4_K Q5_0 Q4_1",
}
DIM, HIDDEN, HEADS, KV_HEADS, HEAD_DIM = 256, 64, 2, 1, 16


def kinds():
    rng = np.random.default_rng(23)
    saved = json.loads((TOKENIZERS / "digits/tokenizer.json").read_text())
    vocab = len(saved["model"]["vocab"])
    OUT.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(OUT / "kinds.gguf", "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(DIM)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_block_count(len(KINDS))
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(5000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(vocab)
    add_byte_level(writer, saved, "smollm", eos_token_id=0, add_bos_token=False)

    def add(name, kind, rows, columns, deviation):
        kind = GGMLQuantizationType[kind]
        weight = rng.standard_normal((rows, columns)).astype(np.float32) * deviation
        data = stored(rng, kind, weight)
        writer.add_tensor(name, data, raw_dtype=kind)

    def norm(name):
        writer.add_tensor(name, (1 + 0.1 * rng.standard_normal(DIM)).astype(np.float32))

    add("token_embd.weight", "Q4_1", vocab, DIM, 1)
    for layer, names in KINDS.items():
        q, k, v, o, gate, up, down = names.split()
        prefix = f"blk.{layer}."
        norm(prefix + "attn_norm.weight")
        add(prefix + "attn_q.weight", q, HEADS * HEAD_DIM, DIM, 0.12)
        add(prefix + "attn_k.weight", k, KV_HEADS * HEAD_DIM, DIM, 0.12)
        add(prefix + "attn_v.weight", v, KV_HEADS * HEAD_DIM, DIM, 0.12)
        add(prefix + "attn_output.weight", o, DIM, HEADS * HEAD_DIM, 0.12)
        norm(prefix + "ffn_norm.weight")
        add(prefix + "ffn_gate.weight", gate, HIDDEN, DIM, 0.12)
        add(prefix + "ffn_up.weight", up, HIDDEN, DIM, 0.12)
        add(prefix + "ffn_down.weight", down, DIM, HIDDEN, 0.12)
    norm("output_norm.weight")
    add("output.weight", "Q6_K", vocab, DIM, 0.2)
    finish(writer)


def kinds_golden():
    path = OUT / "kinds.gguf"
    tensors = {}
    for tensor in GGUFReader(path).tensors:
        numbers = quants.dequantize(tensor.data, tensor.tensor_type).astype("<f4")
        heads = {"attn_q": HEADS, "attn_k": KV_HEADS}.get(tensor.name.split(".")[-2])
        if heads:
            numbers = halves(numbers, heads)
        digest = hashlib.sha256(np.ascontiguousarray(numbers).tobytes()).hexdigest()
        tensors[tensor.name] = {"type": tensor.tensor_type.name, "sha256": digest}

    class Model(make_model_golden.Model):
        def __init__(self):
            self.multimodal, self.image_token, self.features = False, None, None
            reference = Tokenizer.from_file(str(TOKENIZERS / "digits/tokenizer.json"))
            self.tokenizer = lambda text, **_: {"input_ids": reference.encode(text).ids}
            self.model = AutoModelForCausalLM.from_pretrained(
                OUT, gguf_file="kinds.gguf", dtype=torch.float32, attn_implementation="eager"
            )
            self.model.eval()
            self.vocab_size = self.model.config.vocab_size
            self.end = 0

    golden = make_model_golden.Golden(Model(), "Tests/Golden/gguf/kinds.gguf")
    golden.description["tensors"] = tensors
    golden.add("text", "What is the colour of the square?", positions=[0, 3, 6])
    golden.add("numbers", "def add(a, b):\n    return 12 + 345", next_turn=" Three red circles.")
    golden.write(OUT / "kinds")


# --- pairs


def decoder_file(name, text, architecture="llama"):
    decoder = GGUFWriter(OUT / f"{name}.gguf", architecture)
    decoder.add_context_length(text["max_position_embeddings"])
    decoder.add_embedding_length(text["hidden_size"])
    decoder.add_feed_forward_length(text["intermediate_size"])
    decoder.add_block_count(text["num_hidden_layers"])
    decoder.add_head_count(text["num_attention_heads"])
    decoder.add_head_count_kv(text["num_key_value_heads"])
    decoder.add_key_length(text["head_dim"])
    decoder.add_value_length(text["head_dim"])
    decoder.add_rope_dimension_count(text["head_dim"])
    decoder.add_layer_norm_rms_eps(text["rms_norm_eps"])
    return decoder


def adder(config):
    dtype = {"float16": "F16", "bfloat16": "BF16"}[config["dtype"]]

    def add(writer, name, tensor, small):
        numbers = tensor.float().numpy()
        kind = GGMLQuantizationType["F32" if small else dtype]
        writer.add_tensor(name, quants.quantize(numbers, kind), raw_dtype=kind)

    return add


def add_decoder_tensor(add, decoder, text, plain, tensor):
    names = {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
    name = re.sub(r"^layers\.", "blk.", names.get(plain, plain))
    for theirs, ours in TEXT_NAMES.items():
        name = name.replace(theirs, ours)
    if text and ("attn_q." in name or "attn_k." in name):
        heads = text["num_attention_heads" if "attn_q." in name else "num_key_value_heads"]
        tensor = torch.from_numpy(interleaved(tensor.float().numpy(), heads))
    add(decoder, name, tensor, tensor.ndim == 1)


def smol_pair(name):
    """A SmolVLM checkpoint as convert_hf_to_gguf.py of llama.cpp writes it."""
    folder = CHECKPOINTS / name
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    weights = safe_open(folder / "model.safetensors", "pt")
    processor = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    add = adder(config)
    decoder = decoder_file(name, text)
    decoder.add_rope_freq_base(text["rope_parameters"]["rope_theta"])
    saved = json.loads((folder / "tokenizer.json").read_text())
    add_byte_level(decoder, saved, "smollm", bos_token_id=1, eos_token_id=2)
    decoder.add_chat_template((folder / "chat_template.jinja").read_text())
    projector = GGUFWriter(OUT / f"{name}-mmproj.gguf", "clip")
    projector.add_bool("clip.has_vision_encoder", True)
    projector.add_string("clip.projector_type", "idefics3")
    projector.add_uint32("clip.vision.image_size", vision["image_size"])
    projector.add_uint32("clip.vision.preproc_image_size", processor["size"]["longest_edge"])
    projector.add_uint32("clip.vision.patch_size", vision["patch_size"])
    projector.add_uint32("clip.vision.embedding_length", vision["hidden_size"])
    projector.add_uint32("clip.vision.feed_forward_length", vision["intermediate_size"])
    projector.add_uint32("clip.vision.attention.head_count", vision["num_attention_heads"])
    projector.add_float32("clip.vision.attention.layer_norm_epsilon", vision["layer_norm_eps"])
    projector.add_uint32("clip.vision.block_count", vision["num_hidden_layers"])
    projector.add_uint32("clip.vision.projector.scale_factor", config["scale_factor"])
    projector.add_array("clip.vision.image_mean", processor["image_mean"])
    projector.add_array("clip.vision.image_std", processor["image_std"])
    projector.add_bool("clip.use_gelu", True)
    for key in sorted(weights.keys()):
        tensor, plain = weights.get_tensor(key), key.removeprefix("model.")
        if plain.startswith("vision_model."):
            ours = smol_vision_name(plain.removeprefix("vision_model."))
            add(projector, ours, tensor, tensor.ndim == 1 or "position" in ours)
        elif plain.startswith("connector."):
            add(projector, "mm.model.fc.weight", tensor, False)
        elif plain == "lm_head.weight":
            add(decoder, "output.weight", tensor, False)
        else:
            add_decoder_tensor(add, decoder, text, plain.removeprefix("text_model."), tensor)
    finish(decoder)
    finish(projector)


def qwen_pair(name, pattern):
    """A Qwen-VL checkpoint as convert_hf_to_gguf.py of llama.cpp writes it; `pattern`: every so many layers attend to all."""
    folder = CHECKPOINTS / name
    config = json.loads((folder / "config.json").read_text())
    vision, text = config["vision_config"], config.get("text_config", config)
    weights = safe_open(folder / "model.safetensors", "pt")
    processor = json.loads((folder / "preprocessor_config.json").read_text())
    add = adder({"dtype": config.get("dtype") or config["torch_dtype"]})
    kind = config["model_type"]
    even = {"head_dim": text["hidden_size"] // text["num_attention_heads"]}
    decoder = decoder_file(name, even | text, "qwen3vl" if kind == "qwen3_vl" else "qwen2vl")
    rope = text.get("rope_parameters") or text["rope_scaling"] | {"rope_theta": text["rope_theta"]}
    decoder.add_rope_freq_base(rope["rope_theta"])
    decoder.add_rope_dimension_sections([*rope["mrope_section"], 0])
    saved = json.loads((folder / "tokenizer.json").read_text())
    add_byte_level(decoder, saved, "qwen2", eos_token_id=2)
    decoder.add_chat_template((folder / "chat_template.jinja").read_text())
    newer = kind == "qwen2_5_vl"
    width = vision["embed_dim"] if kind == "qwen2_vl" else vision["hidden_size"]
    projector = GGUFWriter(OUT / f"{name}-mmproj.gguf", "clip")
    projector.add_bool("clip.has_vision_encoder", True)
    projector.add_string("clip.projector_type", MERGERS[kind])
    side = int(vision.get("num_position_embeddings", 0) ** 0.5) * vision["patch_size"]
    projector.add_uint32("clip.vision.image_size", side or 560)
    projector.add_uint32("clip.vision.patch_size", vision["patch_size"])
    projector.add_uint32("clip.vision.image_min_pixels", processor["size"]["shortest_edge"])
    projector.add_uint32("clip.vision.image_max_pixels", processor["size"]["longest_edge"])
    projector.add_uint32("clip.vision.embedding_length", width)
    hidden = vision.get("intermediate_size") or width * vision["mlp_ratio"]
    projector.add_uint32("clip.vision.feed_forward_length", int(hidden))
    projector.add_uint32("clip.vision.attention.head_count", vision["num_heads"])
    projector.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
    projector.add_uint32("clip.vision.block_count", vision["depth"])
    projector.add_array("clip.vision.image_mean", processor["image_mean"])
    projector.add_array("clip.vision.image_std", processor["image_std"])
    if newer:
        projector.add_bool("clip.use_silu", True)
        projector.add_uint32("clip.vision.n_wa_pattern", pattern)
        projector.add_uint32("clip.vision.window_size", vision["window_size"])
    deepstack = vision.get("deepstack_visual_indexes")
    if deepstack:
        decoder.add_uint32("qwen3vl.n_deepstack_layers", len(deepstack))
        projector.add_uint32("clip.vision.spatial_merge_size", vision["spatial_merge_size"])
        flags = [layer in deepstack for layer in range(vision["depth"])]
        projector.add_array("clip.vision.is_deepstack_layers", flags)
        projector.add_bool("clip.use_gelu", True)
    for key in sorted(weights.keys()):
        tensor = weights.get_tensor(key)
        plain = key.removeprefix("model.").removeprefix("language_model.")
        if plain.startswith("visual."):
            plain = plain.removeprefix("visual.")
            tensors = qwen3_vision_tensors(plain, tensor, deepstack) if deepstack else qwen_vision_tensors(plain, tensor)
            for ours, part in tensors:
                add(projector, ours, part, part.ndim == 1 or "position" in ours)
        elif plain == "lm_head.weight":
            add(decoder, "output.weight", tensor, False)
        else:
            add_decoder_tensor(add, decoder, None, plain, tensor)
    finish(decoder)
    finish(projector)


MERGERS = {
    "qwen2_vl": "qwen2vl_merger", "qwen2_5_vl": "qwen2.5vl_merger", "qwen3_vl": "qwen3vl_merger",
}  # fmt: skip


def qwen3_vision_tensors(name, tensor, deepstack):
    """Queries, keys and values stay one matrix; what is added later is named by its layer."""
    if name == "patch_embed.proj.weight":
        yield "v.patch_embd.weight", tensor[:, :, 0]
        yield "v.patch_embd.weight.1", tensor[:, :, 1]
        return
    for index, layer in enumerate(deepstack):
        name = name.replace(f"deepstack_merger_list.{index}.linear_", f"deepstack.{layer}.")
        name = name.replace(f"deepstack_merger_list.{index}.", f"deepstack.{layer}.")
    for theirs, ours in [
        ("patch_embed.proj", "patch_embd"), ("pos_embed", "position_embd"), ("merger.norm", "post_ln"),
        ("merger.linear_fc1", "mm.0"), ("merger.linear_fc2", "mm.2"), ("blocks", "blk"),
        ("attn.qkv", "attn_qkv"), ("attn.proj", "attn_out"), ("norm1", "ln1"), ("norm2", "ln2"),
        ("mlp.linear_fc1", "ffn_up"), ("mlp.linear_fc2", "ffn_down"),
    ]:
        name = name.replace(theirs, ours)
    yield name if name.startswith("mm.") else "v." + name, tensor


def qwen_vision_tensors(name, tensor):
    if name == "patch_embed.proj.weight":
        yield "v.patch_embd.weight", tensor[:, :, 0]
        yield "v.patch_embd.weight.1", tensor[:, :, 1]
        return
    if ".attn.qkv." in name:
        for part, rows in zip("qkv", tensor.chunk(3)):
            ours = name.replace("blocks", "blk").replace("attn.qkv", f"attn_{part}")
            yield "v." + ours, rows
        return
    for theirs, ours in [
        ("merger.ln_q", "post_ln"), ("blocks", "blk"), ("attn.proj", "attn_out"), ("norm1", "ln1"),
        ("norm2", "ln2"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
        ("mlp.down_proj", "ffn_down"), ("mlp.fc1", "ffn_up"), ("mlp.fc2", "ffn_down"),
    ]:
        name = name.replace(theirs, ours)
    yield name.replace("merger.mlp", "mm") if "merger" in name else "v." + name, tensor


def smol_vision_name(name):
    for theirs, ours in [
        ("embeddings.patch_embedding", "patch_embd"), ("embeddings.position_embedding", "position_embd"),
        ("encoder.layers", "blk"), ("self_attn.q_proj", "attn_q"), ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"), ("self_attn.out_proj", "attn_out"), ("layer_norm", "ln"),
        ("post_layernorm", "post_ln"), ("mlp.fc1", "ffn_up"), ("mlp.fc2", "ffn_down"),
    ]:
        name = name.replace(theirs, ours)
    return "v." + name


def pair(name, pre, feature_layer, write_norms):
    """A checkpoint of Tests/Golden/checkpoints as a decoder and an mmproj file."""
    folder = CHECKPOINTS / name
    config = json.loads((folder / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    weights = safe_open(folder / "model.safetensors", "pt")
    add = adder(config)
    decoder = decoder_file(name, text)
    projector = GGUFWriter(OUT / f"{name}-mmproj.gguf", "clip")
    rope = text["rope_parameters"]
    decoder.add_rope_freq_base(rope["rope_theta"])
    if rope["rope_type"] == "yarn":
        decoder.add_rope_scaling_type(RopeScalingType.YARN)
        decoder.add_rope_scaling_factor(rope["factor"])
        decoder.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif rope["rope_type"] == "llama3":
        decoder.add_tensor("rope_freqs.weight", llama3_factors(rope, text["head_dim"]))

    saved = json.loads((folder / "tokenizer.json").read_text())
    if pre:
        add_byte_level(decoder, saved, pre, bos_token_id=1, eos_token_id=2, add_bos_token=True)
    else:
        add_sentence_pieces(decoder, sentence_pieces_of(saved, text["vocab_size"]))
    decoder.add_chat_template((folder / "chat_template.jinja").read_text())

    processor = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    projector.add_bool("clip.has_text_encoder", False)
    projector.add_bool("clip.has_vision_encoder", True)
    projector.add_bool("clip.has_llava_projector", True)
    projector.add_string("clip.projector_type", "mlp")
    projector.add_uint32("clip.vision.image_size", vision["image_size"])
    projector.add_uint32("clip.vision.patch_size", vision["patch_size"])
    projector.add_uint32("clip.vision.embedding_length", vision["hidden_size"])
    projector.add_uint32("clip.vision.feed_forward_length", vision["intermediate_size"])
    projector.add_uint32("clip.vision.attention.head_count", vision["num_attention_heads"])
    projector.add_float32("clip.vision.attention.layer_norm_epsilon", vision["layer_norm_eps"])
    projector.add_uint32("clip.vision.block_count", vision["num_hidden_layers"])
    projector.add_array("clip.vision.image_mean", processor["image_mean"])
    projector.add_array("clip.vision.image_std", processor["image_std"])
    projector.add_bool("clip.use_gelu", vision["hidden_act"] == "gelu")
    if feature_layer is not None:
        projector.add_array("clip.vision.feature_layer", [feature_layer])
    if "image_grid_pinpoints" in config:
        edges = [edge for resolution in config["image_grid_pinpoints"] for edge in resolution]
        projector.add_string("clip.vision.image_aspect_ratio", "anyres")
        projector.add_string("clip.vision.mm_patch_merge_type", "spatial_unpad")
        projector.add_array("clip.vision.image_grid_pinpoints", edges)
        projector.add_uint32("clip.vision.image_crop_resolution", vision["image_size"])
    elif not processor.get("do_pad"):
        projector.add_string("clip.vision.image_aspect_ratio", "square")

    for key in sorted(weights.keys()):
        tensor = weights.get_tensor(key)
        plain = key.removeprefix("model.").removeprefix("language_model.").removeprefix("model.")
        plain = plain.replace("vision_tower.vision_model", "vision_tower")
        if key.endswith("lm_head.weight"):
            add(decoder, "output.weight", tensor, False)
        elif plain == "image_newline":
            add(projector, "model.image_newline", tensor, True)
        elif plain.startswith("multi_modal_projector."):
            name_ = plain.replace("multi_modal_projector.linear_1", "mm.0")
            add(projector, name_.replace("multi_modal_projector.linear_2", "mm.2"), tensor, tensor.ndim == 1)
        elif plain.startswith("vision_tower."):
            name_ = vision_name(plain.removeprefix("vision_tower."))
            if "position_ids" not in name_ and (write_norms or "post_ln" not in name_):
                add(projector, name_, tensor, tensor.ndim == 1 or "embd" in name_ and "patch" not in name_)
        else:
            add_decoder_tensor(add, decoder, text, plain, tensor)
    finish(decoder)
    finish(projector)


def vision_name(name):
    """As examples/llava/convert_image_encoder_to_gguf.py of llama.cpp names them."""
    for theirs, ours in [
        ("embeddings.", ""), ("encoder.layers", "blk"), ("_proj", ""), ("self_attn.", "attn_"),
        ("layer_norm", "ln"), ("layernorm", "ln"), ("mlp.fc1", "ffn_down"), ("mlp.fc2", "ffn_up"),
        ("embedding", "embd"), ("layrnorm", "ln"),
    ]:
        name = name.replace(theirs, ours)
    return "v." + name


def llama3_factors(rope, head_dim):
    """By how much Llama 3's rule divides each frequency."""
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    original = rope["original_max_position_embeddings"]
    frequencies = 1 / rope["rope_theta"] ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)
    out = []
    for frequency in frequencies:
        wavelength = 2 * np.pi / frequency
        if wavelength < original / high:
            out.append(1.0)
        elif wavelength > original / low:
            out.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            out.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(out, np.float32)


def sentence_pieces_of(saved, count):
    """A tokenizer.json's pieces with scores that rank them as its merges do."""
    model = saved["model"]
    rank = {}
    for i, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        rank.setdefault(left + right, i)
    special = {t["id"]: t["content"] for t in saved["added_tokens"]}
    pieces = [(f"[PAD{i}]", -1e9, UNUSED) for i in range(count)]
    for piece, i in model["vocab"].items():
        kind = BYTE if re.fullmatch("<0x[0-9A-F]{2}>", piece) else NORMAL
        pieces[i] = (piece, -1.0 - rank.get(piece, 10_000), kind)
    for i, content in special.items():
        pieces[i] = (content, 0.0, UNKNOWN if content == "<unk>" else CONTROL)
    return pieces


def main():
    torch.set_num_threads(1)
    all_texts = texts_of.texts()
    byte_level_vocabularies(all_texts)
    sentence_piece_vocabulary(all_texts)
    kinds()
    kinds_golden()
    pair("yarn-padded", None, None, write_norms=True)
    pair("llama3-no-projector-bias", "smaug-bpe", 2, write_norms=False)
    pair("next-vicuna", None, None, write_norms=True)
    smol_pair("smol-shuffle-4")
    qwen_pair("qwen2-flat", None)
    qwen_pair("qwen25-windows", 2)
    qwen_pair("qwen3-deepstack", None)


if __name__ == "__main__":
    main()
