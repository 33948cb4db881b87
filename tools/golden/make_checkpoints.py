#!/usr/bin/env python3
"""Makes the tiny random checkpoints of Tests/Golden/checkpoints.

    tools/golden/make_checkpoints.py [--only NAME …]

Together they vary what a LLaVA-1.5, LLaVA-NeXT, SmolVLM or Qwen-VL checkpoint in Hugging Face layout can vary; the
table CHECKPOINTS says how. They are written by transformers' own `save_pretrained`, except for the tensor names of
the other two generations, which are put in place afterwards. Weights are drawn so that activations
keep the size they have in a trained model and logits spread over about ±10: with an initialiser's
usual 0.02 a wrong layer would hardly show.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import (
    CLIPVisionConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS_FOLDER = ROOT / "Tests/Golden/checkpoints"
DEMO = ROOT / "tools/demo/checkpoint"

# What each checkpoint is there for. `text`, `vision` and `llava` are passed to the configurations;
# `next`: a LLaVA-NeXT checkpoint, the tiles an image may be cut into, (lines, columns); `smol`: a SmolVLM one, its
# `scale_factor` and the image processor's longest edge; `qwen`: a Qwen-VL one, its kind, its processor's counts of
# pixels, its chat template and its mean colour; `names`: the tensor names are "saved" (as this transformers writes them), "hub" (as the published
# llava-1.5-*-hf files) or "nested" (as transformers 4.5x wrote them).
CHECKPOINTS = {
    "mha-biases": dict(  # multi-head attention, biases everywhere, three heads of 12
        dtype="float32",
        tokenizer="byte-fallback",
        text=dict(
            hidden_size=36, intermediate_size=52, num_attention_heads=3, num_key_value_heads=3,
            attention_bias=True, mlp_bias=True,
        ),
        vision=dict(hidden_size=24, num_attention_heads=3, image_size=32, patch_size=8),
        llava=dict(),
    ),
    "one-kv-head-tied-full": dict(  # five heads wider than the hidden size, the class token kept
        dtype="bfloat16",
        tokenizer="byte-level",
        text=dict(
            hidden_size=40, intermediate_size=88, num_attention_heads=5, num_key_value_heads=1,
            head_dim=16, tie_word_embeddings=True,
        ),
        vision=dict(
            hidden_size=40, num_attention_heads=5, image_size=48, patch_size=16,
            hidden_act="gelu_pytorch_tanh",
        ),
        llava=dict(vision_feature_layer=-1, vision_feature_select_strategy="full"),
    ),
    "gqa-linear-sharded": dict(  # several shards, RoPE stretched linearly, a layer counted from 0
        dtype="float16",
        tokenizer="byte-level",
        shard="70KB",
        text=dict(
            hidden_size=72, intermediate_size=100, num_attention_heads=6, num_key_value_heads=3,
            rope_parameters=dict(rope_type="linear", factor=2.5, rope_theta=10000.0),
        ),
        vision=dict(
            hidden_size=24, num_attention_heads=3, image_size=80, patch_size=16, hidden_act="gelu",
        ),
        llava=dict(vision_feature_layer=2),
    ),
    "llama3-no-projector-bias": dict(  # names as published, large RoPE base with Llama 3's scaling
        dtype="bfloat16",
        tokenizer="byte-level",
        names="hub",
        text=dict(
            hidden_size=56, intermediate_size=120, num_attention_heads=4, num_key_value_heads=2,
            head_dim=24, max_position_embeddings=2048,
            rope_parameters=dict(
                rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64, rope_theta=500000.0,
            ),
        ),
        vision=dict(hidden_size=32, num_attention_heads=2, image_size=32, patch_size=8),
        llava=dict(multimodal_projector_bias=False),
    ),
    "yarn-padded": dict(  # images padded to a square, YaRN, names as of transformers 4.5x
        dtype="float16",
        tokenizer="byte-fallback",
        names="nested",
        pad=True,
        text=dict(
            hidden_size=48, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2,
            max_position_embeddings=256,
            rope_parameters=dict(
                rope_type="yarn", factor=4.0, original_max_position_embeddings=64,
                rope_theta=10000.0,
            ),
        ),
        vision=dict(
            hidden_size=24, num_attention_heads=4, image_size=42, patch_size=14,
            intermediate_size=44,
        ),
        llava=dict(),
    ),
    "tied-attention-bias-full": dict(  # attention biases alone, tied, class token, first-layer feature
        dtype="float32",
        tokenizer="byte-fallback",
        names="hub",
        text=dict(
            hidden_size=40, intermediate_size=56, num_attention_heads=4, num_key_value_heads=2,
            attention_bias=True, tie_word_embeddings=True, rms_norm_eps=1e-6,
        ),
        vision=dict(hidden_size=24, num_attention_heads=3, image_size=32, patch_size=16),
        llava=dict(vision_feature_layer=-3, vision_feature_select_strategy="full"),
    ),
    "seven-heads-nested": dict(  # seven heads of 10 on a hidden size of 42, MLP biases
        dtype="float16",
        tokenizer="byte-level",
        names="nested",
        text=dict(
            hidden_size=42, intermediate_size=66, num_attention_heads=7, num_key_value_heads=7,
            head_dim=10, num_hidden_layers=4, mlp_bias=True,
        ),
        vision=dict(hidden_size=20, num_attention_heads=5, image_size=48, patch_size=8),
        llava=dict(projector_hidden_act="gelu_pytorch_tanh"),
    ),
    "next-vicuna": dict(  # LLaVA-NeXT's published tiles, multi-head attention, names as published
        dtype="float16",
        tokenizer="byte-fallback",
        names="hub",
        next=[(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)],
        template="llava_vicuna",
        text=dict(
            hidden_size=48, intermediate_size=88, num_attention_heads=4, num_key_value_heads=4,
        ),
        vision=dict(hidden_size=24, num_attention_heads=3, image_size=32, patch_size=8),
        llava=dict(),
    ),
    "next-mistral-window": dict(  # a window of 24 positions slides over images of up to 124 rows
        dtype="bfloat16",
        tokenizer="byte-fallback",
        next=[(1, 2), (2, 1), (2, 2), (4, 1), (1, 4)],
        template="llava_mistral",
        family="mistral",
        text=dict(
            hidden_size=56, intermediate_size=80, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, num_hidden_layers=3, sliding_window=24, rope_theta=1000000.0,
        ),
        vision=dict(
            hidden_size=32, num_attention_heads=4, image_size=30, patch_size=6, hidden_act="gelu",
        ),
        llava=dict(vision_feature_layer=-1),
    ),
    "next-llama3": dict(  # grouped heads, Llama 3's scaling, names as of transformers 4.5x
        dtype="bfloat16",
        tokenizer="byte-level",
        names="nested",
        next=[(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)],
        template="llava_llama3",
        text=dict(
            hidden_size=40, intermediate_size=72, num_attention_heads=5, num_key_value_heads=1,
            head_dim=12, max_position_embeddings=1024,
            rope_parameters=dict(
                rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                original_max_position_embeddings=64, rope_theta=500000.0,
            ),
        ),
        vision=dict(hidden_size=24, num_attention_heads=2, image_size=42, patch_size=14),
        llava=dict(multimodal_projector_bias=False),
    ),
    "text-only": dict(  # a decoder alone, nine heads on three, tied
        dtype="bfloat16",
        tokenizer="byte-level",
        text=dict(
            hidden_size=72, intermediate_size=96, num_attention_heads=9, num_key_value_heads=3,
            tie_word_embeddings=True,
        ),
    ),
    "smol-shuffle-4": dict(  # published form: markers are tokens, four tiles a side, untied
        dtype="bfloat16",
        tokenizer="markers",
        smol=dict(kind="smolvlm", scale_factor=4, longest_edge=128),
        text=dict(
            hidden_size=48, intermediate_size=88, num_attention_heads=3, num_key_value_heads=1,
            rope_theta=100000.0,
        ),
        vision=dict(
            hidden_size=48, num_attention_heads=2, image_size=32, patch_size=4,
            intermediate_size=76,
        ),
    ),
    "smol-shuffle-3": dict(  # patches that leave pixels over, a head of 72, three tiles a side, one KV head a query
        dtype="float16",
        tokenizer="markers",
        smol=dict(kind="idefics3", scale_factor=3, longest_edge=138),
        text=dict(
            hidden_size=40, intermediate_size=72, num_attention_heads=2, num_key_value_heads=2,
            head_dim=20,
        ),
        vision=dict(
            hidden_size=72, num_attention_heads=1, image_size=46, patch_size=5,
            intermediate_size=100,
        ),
    ),
    "smol-plain-markers": dict(  # markers are plain text, an edge that is no multiple of a tile, tied
        dtype="float32",
        tokenizer="plain-markers",
        smol=dict(kind="smolvlm", scale_factor=2, longest_edge=101),
        text=dict(
            hidden_size=40, intermediate_size=56, num_attention_heads=5, num_key_value_heads=1,
            tie_word_embeddings=True,
        ),
        vision=dict(
            hidden_size=36, num_attention_heads=3, image_size=28, patch_size=14,
            intermediate_size=52, num_hidden_layers=2,
        ),
    ),
    "qwen2-flat": dict(  # published form: the decoder's keys at the top, heads of 20 in the tower, tied
        dtype="bfloat16",
        tokenizer="qwen",
        qwen=dict(kind="qwen2", pixels=(4 * 16**2, 40 * 16**2)),
        text=dict(
            hidden_size=64, intermediate_size=96, num_attention_heads=2, num_key_value_heads=1,
            tie_word_embeddings=True,
            rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[4, 6, 6]),
        ),
        vision=dict(
            depth=2, embed_dim=40, hidden_size=64, num_heads=2, patch_size=8, mlp_ratio=2,
        ),
        names="flat",
    ),
    "qwen25-windows": dict(  # windows of 2 × 2 tokens and one full layer, an odd MLP, untied
        dtype="float16",
        tokenizer="qwen",
        qwen=dict(kind="qwen2.5", pixels=(4 * 12**2, 60 * 12**2)),
        text=dict(
            hidden_size=48, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2,
            rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_section=[2, 2, 2]),
        ),
        vision=dict(
            depth=3, hidden_size=48, out_hidden_size=48, num_heads=3, patch_size=6,
            intermediate_size=61, window_size=24, fullatt_block_indexes=[1],
        ),
    ),
    "qwen3-deepstack": dict(  # heads wider than the hidden size, a learned table, two tower layers added behind
        dtype="bfloat16",
        tokenizer="qwen",
        qwen=dict(kind="qwen3", pixels=(4 * 12**2, 60 * 12**2), template="qwen3_vl", mean=0.5),
        text=dict(
            hidden_size=40, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2,
            head_dim=16, num_hidden_layers=3, tie_word_embeddings=True,
            rope_parameters=dict(
                rope_type="default", rope_theta=5e6, mrope_section=[4, 2, 2], mrope_interleaved=True,
            ),
        ),
        vision=dict(
            depth=4, hidden_size=40, out_hidden_size=40, num_heads=2, patch_size=6,
            intermediate_size=60, num_position_embeddings=49, deepstack_visual_indexes=[0, 2],
        ),
    ),
}  # fmt: skip

TEMPLATES = ROOT / "Tests/Golden/tokenizers/chat"
TEMPLATE = (DEMO / "chat_template.jinja").read_text()
SPECIAL = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


def corpus():
    """A small text to learn merges from: the demo's questions, and letters beyond ASCII."""
    for line in (ROOT / "tools/demo/questions.jsonl").read_text().splitlines():
        question = json.loads(line)
        yield f"USER: {question['question']} ASSISTANT: {question['answer']}"
    yield "Größe, naïve café, 日本語, привет, 12 345.67 €, don't we'll"


def byte_level_tokenizer():
    """Byte-level BPE in the manner of Llama 3: a split by regular expression, then bytes."""
    tokenizer = Tokenizer(models.BPE())
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=316,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>", "<image>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return add_begin_token(tokenizer)


def byte_fallback_tokenizer():
    """BPE over characters with byte fallback, in the manner of Llama 2."""
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    # Words apart while training, so that no piece spans two; none when encoding, as Llama has it.
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trainer = trainers.BpeTrainer(
        vocab_size=380,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        limit_alphabet=70,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < len(special)]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1),
        ]
    )
    return add_begin_token(tokenizer)


def add_begin_token(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def marker_tokenizer(markers=True):
    """Byte-level BPE in the manner of SmolVLM: digits apart, nothing put in front; the names of tiles tokens, or text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<unk>", "<|im_start|>", "<end_of_utterance>", "<pad>", "<image>"]
    special.append("<fake_token_around_image>")
    if markers:
        special += ["<global-img>"]
        special += [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    lines = ["one\n\ntwo\n\nthree\n\n"] * 40
    tokenizer.train_from_iterator([*corpus(), *lines], trainer)
    return tokenizer


def qwen_tokenizer():
    """Byte-level BPE in the manner of Qwen 2, with what its chats and images have."""
    tokenizer = Tokenizer(models.BPE())
    pattern = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
        r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    special += ["<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    return tokenizer


TOKENIZERS = {
    "qwen": qwen_tokenizer,
    "markers": marker_tokenizer,
    "plain-markers": lambda: marker_tokenizer(markers=False),
    "byte-level": byte_level_tokenizer,
    "byte-fallback": byte_fallback_tokenizer,
}


@torch.no_grad()
def randomize(model, seed):
    """Draws every parameter anew: rows of norm about one, norms about one, biases not zero."""
    generator = torch.Generator().manual_seed(seed)
    hidden = model.get_output_embeddings().weight.shape[1]
    for name, parameter in sorted(model.named_parameters()):
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name or "layrnorm" in name:
            parameter.copy_(noise * 0.1 + (0.0 if name.endswith("bias") else 1.0))
        elif name.endswith("bias"):
            parameter.copy_(noise * 0.2)
        elif "lm_head" in name or "embed_tokens" in name:
            parameter.copy_(noise * (3.0 / hidden**0.5))
        elif ("embedding" in name and "patch" not in name) or "pos_embed" in name:
            parameter.copy_(noise * 0.5)
        else:
            fan_in = parameter[0].numel()
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.2
            parameter.copy_(noise * (gain / fan_in**0.5))


def rename_tensors(folder, generation):
    """Gives the tensors the names of another generation of files."""

    def renamed(name):
        if name.startswith("vision_tower.") and "vision_model" not in name:
            name = name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        if generation == "nested":
            if name == "image_newline":
                return "model." + name
            if name == "language_model.lm_head.weight":
                return "lm_head.weight"
            name = name.replace("language_model.model.", "language_model.", 1)
            return "model." + name
        return name

    path = folder / "model.safetensors"
    tensors = {renamed(name): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def save_next_processor(folder, tokenizer, image_size, patch_size, resolutions, template):
    square = {"height": image_size, "width": image_size}
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessorPil(
            size={"shortest_edge": image_size}, crop_size=square, image_grid_pinpoints=resolutions
        ),
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=(TEMPLATES / f"{template}.jinja").read_text(),
    )
    processor.save_pretrained(folder)


def make_smol(folder, recipe, seed):
    raw = TOKENIZERS[recipe["tokenizer"]]()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<|im_start|>",
        eos_token="<end_of_utterance>", pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    smol = recipe["smol"]
    vision = dict(num_hidden_layers=3) | recipe["vision"]
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    text = dict(num_hidden_layers=2, max_position_embeddings=1024, rms_norm_eps=1e-5) | recipe["text"]
    text = LlamaConfig(vocab_size=raw.get_vocab_size() + 4, **text, **ids)
    published = smol["kind"] == "smolvlm"
    kind, processor, model = (
        (SmolVLMConfig, SmolVLMImageProcessorPil, SmolVLMForConditionalGeneration)
        if published
        else (Idefics3Config, Idefics3ImageProcessorPil, Idefics3ForConditionalGeneration)
    )
    model = model(
        kind(
            text_config=text.to_dict(), vision_config=vision, scale_factor=smol["scale_factor"],
            image_token_id=raw.token_to_id("<image>"),
            tie_word_embeddings=text.tie_word_embeddings,
        )  # fmt: skip
    )
    randomize(model, seed)
    model.tie_weights()
    model.generation_config.update(**ids, do_sample=False, max_new_tokens=32)
    model.to(getattr(torch, recipe["dtype"]))
    model.save_pretrained(folder)
    size = vision["image_size"]
    # The processor of both; SmolVLM's own wants packages for video.
    Idefics3Processor(
        processor(
            size={"longest_edge": smol["longest_edge"]}, max_image_size={"longest_edge": size},
            image_mean=[0.5] * 3, image_std=[0.5] * 3,
        ),
        tokenizer,
        image_seq_len=(size // vision["patch_size"] // smol["scale_factor"]) ** 2,
        chat_template=(TEMPLATES / "smolvlm.jinja").read_text(),
    ).save_pretrained(folder)  # fmt: skip
    save_image(folder / "square.png", 3 * size - 1, 3 * size, seed)
    save_image(folder / "wide.png", 2 * size + 9, size - 3, seed + 1)
    save_image(folder / "tall.png", 5, 97, seed + 2)


def make_qwen(folder, recipe, seed):
    raw = TOKENIZERS[recipe["tokenizer"]]()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )  # fmt: skip
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}
    text = dict(num_hidden_layers=2, max_position_embeddings=1024, rms_norm_eps=1e-6) | recipe["text"]
    text |= dict(vocab_size=raw.get_vocab_size() + 4, **ids)
    tied = text.pop("tie_word_embeddings", False)
    kind, model = {
        "qwen2": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
        "qwen2.5": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
        "qwen3": (Qwen3VLConfig, Qwen3VLForConditionalGeneration),
    }[recipe["qwen"]["kind"]]
    special = ["vision_start", "vision_end", "image_pad", "video_pad"]
    names = ["vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id"]
    config = kind(
        text_config=text, vision_config=recipe["vision"], tie_word_embeddings=tied,
        **{name: raw.token_to_id(f"<|{token}|>") for name, token in zip(names, special)},
    )  # fmt: skip
    config.text_config.tie_word_embeddings = tied
    model = model(config)
    randomize(model, seed)
    model.tie_weights()
    # As published: what ends a turn, and what ends a text.
    model.generation_config.update(**ids | {"eos_token_id": [2, 0]}, do_sample=False, max_new_tokens=32)
    model.to(getattr(torch, recipe["dtype"]))
    model.save_pretrained(folder)
    if recipe.get("names") == "flat":
        flatten(folder)
    template = recipe["qwen"].get("template", "qwen2_vl")
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    tokenizer.save_pretrained(folder)
    vision = recipe["vision"]
    mean = recipe["qwen"].get("mean")
    Qwen2VLImageProcessorPil(
        **({"image_mean": [mean] * 3, "image_std": [mean] * 3} if mean else {}),
        size={"shortest_edge": recipe["qwen"]["pixels"][0], "longest_edge": recipe["qwen"]["pixels"][1]},
        patch_size=vision["patch_size"],
    ).save_pretrained(folder)
    cell = 2 * vision["patch_size"]
    save_image(folder / "square.png", 5 * cell, 5 * cell + 3, seed)
    save_image(folder / "wide.png", 9 * cell - 5, 3 * cell, seed + 1)
    save_image(folder / "tall.png", 5, 97, seed + 2)


def flatten(folder):
    """The decoder's keys at the top, and the older names, as published files have them."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    text = config.pop("text_config")
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["rope_scaling"] = {"type": "mrope", "mrope_section": rope["mrope_section"]}
    for key in ("model_type", "layer_types", "dtype", "sliding_window"):
        text.pop(key, None)
    config = text | {"use_sliding_window": False, "sliding_window": 1024, "max_window_layers": 2} | config
    path.write_text(json.dumps(config, indent=2) + "\n")
    path = folder / "model.safetensors"
    tensors = {
        name.replace("model.visual.", "visual.").replace("model.language_model.", "model."): tensor
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})


def save_processor(folder, tokenizer, image_size, patch_size, strategy, pad):
    if pad:
        image_processor = LlavaImageProcessorPil(
            do_pad=True,
            size={"shortest_edge": image_size},
            crop_size={"height": image_size, "width": image_size},
        )
    else:
        image_processor = CLIPImageProcessorPil(
            size={"shortest_edge": image_size},
            crop_size={"height": image_size, "width": image_size},
        )
    processor = LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=patch_size,
        vision_feature_select_strategy=strategy,
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    processor.save_pretrained(folder)


def save_image(path, width, height, seed):
    """A small image with edges, slopes and some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    red = 255 * x // max(1, width - 1)
    green = 255 * ((x // 5 + y // 7) % 2)
    blue = 255 * (x + y) // (width + height)
    pixels = np.stack([red, green, blue], -1)
    pixels[: height // 3] += rng.integers(-20, 21, (height // 3, width, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, optimize=True)


def make(name, recipe, seed):
    folder = CHECKPOINTS_FOLDER / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if "smol" in recipe:
        return make_smol(folder, recipe, seed)
    if "qwen" in recipe:
        return make_qwen(folder, recipe, seed)
    raw = TOKENIZERS[recipe["tokenizer"]]()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, extra_special_tokens={"image_token": "<image>"}, **SPECIAL
    )
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    text = dict(num_hidden_layers=2, max_position_embeddings=512, rms_norm_eps=1e-5) | recipe["text"]
    family = MistralConfig if recipe.get("family") == "mistral" else LlamaConfig
    text_config = family(vocab_size=raw.get_vocab_size() + 4, **text, **ids)
    tied = text_config.tie_word_embeddings
    if "vision" in recipe:
        vision = dict(num_hidden_layers=3, hidden_act="quick_gelu") | recipe["vision"]
        vision.setdefault("intermediate_size", 2 * vision["hidden_size"] - 8)
        llava = dict(vision_feature_layer=-2, vision_feature_select_strategy="default")
        llava |= recipe["llava"]
        patches = (vision["image_size"] // vision["patch_size"]) ** 2
        full = llava["vision_feature_select_strategy"] == "full"
        kind, classes = recipe.get("next"), (LlavaConfig, LlavaForConditionalGeneration)
        if kind:
            side = vision["image_size"]
            llava["image_grid_pinpoints"] = [[side * lines, side * columns] for lines, columns in kind]
            classes = (LlavaNextConfig, LlavaNextForConditionalGeneration)
        config = classes[0](
            vision_config=CLIPVisionConfig(projection_dim=32, **vision),
            text_config=text_config,
            image_token_index=raw.token_to_id("<image>"),
            image_seq_length=patches + full,
            tie_word_embeddings=tied,
            **llava,
            **ids,
        )
        model = classes[1](config)
    else:
        model = LlamaForCausalLM(text_config)
    randomize(model, seed)
    model.tie_weights()
    model.generation_config.update(**ids, do_sample=False, max_new_tokens=32)
    model.to(getattr(torch, recipe["dtype"]))
    model.save_pretrained(folder, max_shard_size=recipe.get("shard", "1GB"))
    if recipe.get("names", "saved") != "saved":
        rename_tensors(folder, recipe["names"])
    if "vision" not in recipe:
        tokenizer.chat_template = TEMPLATE
        tokenizer.save_pretrained(folder)
        return
    size = vision["image_size"]
    strategy = llava["vision_feature_select_strategy"]
    if "next" in recipe:
        resolutions = llava["image_grid_pinpoints"]
        save_next_processor(
            folder, tokenizer, size, vision["patch_size"], resolutions, recipe["template"]
        )
        save_image(folder / "square.png", 3 * size, 3 * size - 1, seed)
        save_image(folder / "wide.png", 2 * size + 9, size - 3, seed + 1)
        save_image(folder / "tall.png", 5, 97, seed + 2)
        save_image(folder / "flat.png", 150, 4, seed + 3)
        return
    save_processor(folder, tokenizer, size, vision["patch_size"], strategy, recipe.get("pad"))
    save_image(folder / "exact.png", size, size, seed)
    save_image(folder / "wide.png", size * 2 + 9, size + 13, seed + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(CHECKPOINTS), choices=list(CHECKPOINTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for index, (name, recipe) in enumerate(CHECKPOINTS.items()):
        if name in arguments.only:
            make(name, recipe, seed=100 + index)
            byte_count = sum(file.stat().st_size for file in (CHECKPOINTS_FOLDER / name).iterdir())
            print(f"{name}: {byte_count / 1000:.0f} kB")


if __name__ == "__main__":
    main()
