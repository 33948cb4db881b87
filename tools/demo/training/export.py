"""Writes the Hugging Face folder of a trained network and compares the two forward passes.

    python -m training.export --work work --out checkpoint
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from scenes import make_scene
from training.codec import Codec
from training.model import (
    TEXT,
    VISION,
    VISUAL_TOKENS,
    Llava,
    from_transformers,
    normalize,
    to_transformers,
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ ' ASSISTANT: ' }}{% else %}{{ 'USER: ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] if content['type'] == 'image' %}"
    "{{ '<image>\\n' }}{% endfor %}"
    "{% for content in message['content'] if content['type'] == 'text' %}"
    "{{ content['text'] }}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)
SPECIAL = dict(bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>")


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def use_published_names(folder):
    """Names and keys as in the published llava-1.5-*-hf files, which other converters expect."""
    path = folder / "model.safetensors"
    tensors = {
        name.replace("vision_tower.", "vision_tower.vision_model.", 1)
        if name.startswith("vision_tower.") and "vision_model" not in name
        else name: tensor.contiguous()
        for name, tensor in load_file(path).items()
    }
    save_file(tensors, path, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["torch_dtype"] = "float16"
    config["text_config"]["rope_theta"] = TEXT["theta"]
    write_json(folder / "config.json", config)


def write_tokenizer(folder, source, codec):
    shutil.copy(source, folder / "tokenizer.json")
    flags = dict(lstrip=False, normalized=False, rstrip=False, single_word=False)
    added = {
        str(codec.tokenizer.token_to_id(token)): dict(content=token, special=True, **flags)
        for token in ("<unk>", "<s>", "</s>", "<image>", "<pad>")
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 2048,
        "padding_side": "left",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        **SPECIAL,
        "image_token": "<image>",
        "extra_special_tokens": {"image_token": "<image>"},
        "processor_class": "LlavaProcessor",
        "added_tokens_decoder": added,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", settings)
    tokens = {role: dict(content=token, **flags) for role, token in SPECIAL.items()}
    write_json(folder / "special_tokens_map.json", tokens)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def write_processor(folder):
    side = VISION["image"]
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
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
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": "<image>",
        "patch_size": VISION["patch"],
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    write_json(folder / "preprocessor_config.json", preprocessor)
    write_json(folder / "processor_config.json", processor)


@torch.no_grad()
def largest_difference(folder, codec):
    """Between the logits of transformers and of the training network, on one image."""
    net, theirs = from_transformers(folder)
    pixels = normalize(make_scene(np.random.default_rng(999)).image[None])
    question = codec.ids("\nDescribe the image. ASSISTANT:")
    ids = codec.prefix + [codec.image] * VISUAL_TOKENS + question
    expected = theirs(input_ids=torch.tensor([ids]), pixel_values=pixels).logits[0, -1]
    x = torch.cat(
        [
            net.text.embed(torch.tensor(codec.prefix)),
            net.projector(net.vision(pixels))[0],
            net.text.embed(torch.tensor(question)),
        ]
    )[None]
    rows = len(ids)
    mask = torch.ones(rows, rows).tril().bool()[None, None]
    found = net.text.head(net.text(x, torch.arange(rows)[None], mask))[0, -1]
    return (expected - found).abs().max().item()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default="work")
    parser.add_argument("--out", type=Path, default="work/checkpoint")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = arguments.work / "tokenizer.json"
    codec = Codec(tokenizer)
    net = Llava()
    net.load_state_dict(torch.load(arguments.work / "decoder.pt")["net"])
    theirs = to_transformers(net, codec.image, codec.pad)
    theirs.generation_config.update(
        bos_token_id=1, eos_token_id=2, pad_token_id=codec.pad, max_new_tokens=96, do_sample=False
    )
    theirs.save_pretrained(arguments.out)
    use_published_names(arguments.out)
    write_tokenizer(arguments.out, tokenizer, codec)
    write_processor(arguments.out)
    print("parameters:", sum(parameter.numel() for parameter in theirs.parameters()))
    print("largest difference of logits:", largest_difference(arguments.out, codec))


if __name__ == "__main__":
    main()
