"""Writes a Hugging Face checkpoint of a real model's shape with random weights.

Rows are drawn, rounded and written a few megabytes at a time, so that memory stays the same for
every shape. A shard's header comes first: it follows from the shapes alone.
"""

import argparse
import json
import shutil
import sys
import zlib
from pathlib import Path

import numpy as np
import tokenizer
from shapes import SHAPES, Qwen, Qwen3, Smol, tensors

SLAB = 1 << 22  # weights drawn at a time
TYPES = {"f16": ("F16", "float16"), "bf16": ("BF16", "bfloat16")}


def parse_arguments():
    parser = argparse.ArgumentParser(prog="tools/synthetic/checkpoint", description=__doc__)
    parser.add_argument("shape", nargs="?", choices=SHAPES, help="see --list")
    parser.add_argument("folder", nargs="?", type=Path, help="made; may be there if it is empty")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layers", type=int, help="of the decoder, instead of the shape's own")
    parser.add_argument("--dtype", choices=TYPES, default="f16")
    parser.add_argument("--shard-bytes", type=int, default=2 << 30, help="of one file, at most")
    parser.add_argument("--holes", action="store_true",
                        help="zeros that take no disk: for `pioedge plan`, which reads no weights")
    parser.add_argument("--list", action="store_true", help="print the shapes and end")
    arguments = parser.parse_args()
    if not arguments.list and not arguments.folder:
        parser.error("SHAPE and FOLDER are needed, or --list")
    if arguments.layers is not None and not 1 <= arguments.layers <= 1024:
        parser.error("--layers takes a whole number from 1 to 1024")
    return arguments


def weight_count(shape):
    return sum(int(np.prod(dimensions)) for _, dimensions, _ in tensors(shape))


def configuration(shape, dtype):
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}
    text = {
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.dim,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-05,
        "rope_theta": float(shape.theta),
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": shape.tied,
        **ids,
    }
    if not shape.vision:
        return {"architectures": ["LlamaForCausalLM"], "torch_dtype": dtype, **text}
    vision = shape.vision
    if isinstance(vision, Smol):
        return smol_configuration(shape, text, dtype)
    if isinstance(vision, Qwen3):
        return qwen3_configuration(shape, text, dtype)
    if isinstance(vision, Qwen):
        return qwen_configuration(shape, text, dtype)
    tiles = {"image_grid_pinpoints": vision.resolutions} if vision.tiled else {}
    return {
        "architectures": [f"Llava{'Next' if tiles else ''}ForConditionalGeneration"],
        "model_type": "llava_next" if tiles else "llava",
        **tiles,
        "torch_dtype": dtype,
        "image_token_index": tokenizer.IMAGE,
        "image_seq_length": vision.positions - 1,
        "multimodal_projector_bias": True,
        "projector_hidden_act": "gelu",
        "tie_word_embeddings": shape.tied,
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": text,
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": vision.dim,
            "intermediate_size": vision.hidden,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "num_channels": 3,
            "image_size": vision.image,
            "patch_size": vision.patch,
            "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-05,
            "projection_dim": vision.dim,
        },
    }


def smol_configuration(shape, text, dtype):
    vision = shape.vision
    return {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "torch_dtype": dtype,
        "image_token_id": tokenizer.IMAGE,
        "scale_factor": vision.shuffle,
        "tie_word_embeddings": False,
        "text_config": text,
        "vision_config": {
            "model_type": "smolvlm_vision",
            "hidden_size": vision.dim,
            "intermediate_size": vision.hidden,
            "num_hidden_layers": vision.layers,
            "num_attention_heads": vision.heads,
            "image_size": vision.image,
            "patch_size": vision.patch,
        },
    }


def qwen_configuration(shape, text, dtype):
    """Flat, as published."""
    vision, half = shape.vision, shape.head_dim // 2
    kind = "Qwen2_5_VL" if vision.windows else "Qwen2VL"
    for key in ("model_type", "attention_bias", "mlp_bias"):
        del text[key]
    widths = (
        {"hidden_size": vision.dim, "out_hidden_size": shape.dim, "intermediate_size": vision.hidden}
        if vision.windows
        else {"embed_dim": vision.dim, "hidden_size": shape.dim, "mlp_ratio": vision.hidden // vision.dim}
    )
    full = [layer for layer in range(vision.layers) if layer % 8 == 7]
    return text | {
        "architectures": [f"{kind}ForConditionalGeneration"],
        "model_type": "qwen2_5_vl" if vision.windows else "qwen2_vl",
        "torch_dtype": dtype,
        "image_token_id": tokenizer.IMAGE,
        "use_sliding_window": False,
        "rope_scaling": {"type": "mrope", "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8]},
        "vision_config": widths
        | {"depth": vision.layers, "num_heads": vision.heads, "patch_size": vision.patch}
        | ({"fullatt_block_indexes": full} if vision.windows else {}),
    }


def qwen3_configuration(shape, text, dtype):
    """Nested, as published."""
    vision, half = shape.vision, shape.head_dim // 2
    text |= {"model_type": "qwen3_vl_text", "rms_norm_eps": 1e-06}
    lines = half * 5 // 16
    text["rope_scaling"] = {
        "mrope_interleaved": True, "mrope_section": [half - 2 * lines, lines, lines], "rope_type": "default",
    }  # fmt: skip
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "torch_dtype": dtype,
        "image_token_id": tokenizer.IMAGE,
        "tie_word_embeddings": shape.tied,
        "text_config": text,
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": vision.layers,
            "hidden_size": vision.dim,
            "intermediate_size": vision.hidden,
            "num_heads": vision.heads,
            "patch_size": vision.patch,
            "spatial_merge_size": vision.merge,
            "temporal_patch_size": 2,
            "out_hidden_size": shape.dim,
            "num_position_embeddings": vision.positions**2,
            "deepstack_visual_indexes": list(vision.deepstack),
            "hidden_act": "gelu_pytorch_tanh",
        },
    }


def qwen3_preprocessor(vision):
    """Counts of pixels, whatever the names say."""
    cell = (vision.patch * vision.merge) ** 2
    return qwen_preprocessor(vision) | {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "size": {"shortest_edge": 64 * cell, "longest_edge": 16_384 * cell},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }


def qwen_preprocessor(vision):
    cell = (vision.patch * vision.merge) ** 2
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "size": {"shortest_edge": 3136, "longest_edge": 16_384 * cell},
        "patch_size": vision.patch,
        "temporal_patch_size": 2,
        "merge_size": vision.merge,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }


def smol_preprocessor(vision):
    return {
        "image_processor_type": "SmolVLMImageProcessor",
        "processor_class": "SmolVLMProcessor",
        "do_resize": True,
        "size": {"longest_edge": vision.longest_edge},
        "max_image_size": {"longest_edge": vision.image},
        "do_image_splitting": True,
        "resample": 1,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "do_convert_rgb": True,
        "do_pad": True,
    }


def preprocessor(vision):
    if isinstance(vision, Smol):
        return smol_preprocessor(vision)
    if isinstance(vision, Qwen3):
        return qwen3_preprocessor(vision)
    if isinstance(vision, Qwen):
        return qwen_preprocessor(vision)
    side, next_ = vision.image, "Next" if vision.tiled else ""
    tiles = {"image_grid_pinpoints": vision.resolutions} if vision.tiled else {}
    return {
        "image_processor_type": "LlavaNextImageProcessor" if vision.tiled else "CLIPImageProcessor",
        "processor_class": f"Llava{next_}Processor",
        **tiles,
        "do_resize": True,
        "size": {"shortest_edge": side},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "do_convert_rgb": True,
    }


def split(shape, shard_bytes):
    """Tensors in runs of at most `shard_bytes`, two bytes a weight."""
    shards, size = [[]], 0
    for tensor in tensors(shape):
        byte_count = 2 * int(np.prod(tensor[1]))
        if shards[-1] and size + byte_count > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += byte_count
    return shards


def rounded(values, dtype):
    """To 16 bits, to nearest even."""
    if dtype == "f16":
        return values.astype("<f2")
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("<u2")


def write_tensor(file, name, count, spread, arguments):
    # A generator of its own for each tensor: one weight more in one changes no other.
    random = np.random.Generator(np.random.PCG64([arguments.seed, zlib.crc32(name.encode())]))
    for start in range(0, count, SLAB):
        values = random.standard_normal(min(SLAB, count - start), dtype=np.float32)
        if spread == "norm":
            values = 1 + 0.1 * values
        else:
            values *= np.float32(spread)
        file.write(rounded(values, arguments.dtype).data)


def write_shard(path, shard, arguments):
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dimensions, _ in shard:
        end = offset + 2 * int(np.prod(dimensions))
        kind = TYPES[arguments.dtype][0]
        header[name] = {"dtype": kind, "shape": list(dimensions), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        if arguments.holes:
            file.truncate(file.tell() + offset)
            return offset
        for name, dimensions, spread in shard:
            write_tensor(file, name, int(np.prod(dimensions)), spread, arguments)
    return offset


def write_weights(shape, folder, arguments):
    shards = split(shape, arguments.shard_bytes)
    total, weight_map = 0, {}
    for index, shard in enumerate(shards):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{index + 1:05}-of-{len(shards):05}.safetensors"
        print(f"{name} …", file=sys.stderr)
        total += write_shard(folder / name, shard, arguments)
        weight_map |= {tensor[0]: name for tensor in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    arguments = parse_arguments()
    if arguments.list:
        for name, shape in SHAPES.items():
            count = weight_count(shape)
            print(f"{name:22} {count / 1e6:8.1f} million weights, {2 * count / 1e9:6.2f} GB on disk")
        return
    shape = SHAPES[arguments.shape]
    if arguments.layers:
        shape = shape.with_layers(arguments.layers)
    folder = arguments.folder
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"tools/synthetic/checkpoint: {folder} is not empty")
    # A folder of that name is whole.
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    kind = "smol" if isinstance(shape.vision, Smol) else "qwen" if isinstance(shape.vision, Qwen) else None
    tokenizer.write(partial, shape.vocabulary, kind)
    generation = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "do_sample": False}
    write_json(partial / "generation_config.json", generation)
    if shape.vision:
        write_json(partial / "preprocessor_config.json", preprocessor(shape.vision))
    if isinstance(shape.vision, Smol):
        write_json(partial / "processor_config.json", {"image_seq_len": shape.vision.tokens})
    write_weights(shape, partial, arguments)
    write_json(partial / "config.json", configuration(shape, TYPES[arguments.dtype][1]))
    partial.rename(folder)


if __name__ == "__main__":
    main()
