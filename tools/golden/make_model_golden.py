#!/usr/bin/env python3
"""Writes what transformers computes for the checkpoints of Tests/Golden, and for the demo.

    tools/golden/make_model_golden.py [--only NAME …]

For each checkpoint a folder holds `golden.json` and `golden.bin`. The second is nothing but f32
values, little-endian; the first says what they are. In golden.json:

    checkpoint        the Hugging Face folder, relative to the repository
    vocab_size        the number of logits a position
    cases             a list, each with
      name            "exact", "resized", "two-pictures", "text", or for the demo a picture's name
      images          PNG files relative to the repository, in the order of their `<image>`
      prompt          the raw text: the tokenizer adds its begin token and nothing else
      ids             the tokens, with `<image>` (id `image_token`) once per visual token
      greedy          at most 16 arg-max tokens after the prompt; an end token, if it came, is last;
                      cut before a token that led the second best by less than 0.01
      next_turn       {ids, logits}: the tokens of a further turn, which follow ids + greedy
      positions       the indices in `ids` whose logits are given; the last one is always there
      logits          {offset, shape}: (positions, vocab_size); offset counts f32 values
      features        {offset, shape, rows}: the projector's output, (rows, dim), for the visual
                      tokens `rows` of all images of the case in order; not in text cases
      deepstack       {offset, shape}: what is added to the same tokens behind the decoder's first layers,
                      (layers · rows, dim), for models that add anything

The model runs in f32 with eager attention; images go through the checkpoint's own processor.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
)

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Tests/Golden/checkpoints"
DEMO = "demo"
STEPS = 16
SMALLEST_LEAD = 0.01  # ten times the tolerance: a token chosen by less would be left to chance
DEMO_IMAGES = ["scene-0002-336x336.png", "scene-0004-480x360.png", "scene-0014-640x480.png"]
DEMO_ROWS = [0, 1, 23, 24, 287, 300, 552, 575]


class QwenProcessor:
    """What Qwen2VLProcessor does with images: each token of one stands as often as it has cells."""

    def __init__(self, folder):
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.images = AutoImageProcessor.from_pretrained(folder, backend="pil")

    def __call__(self, images, text, return_tensors):
        pixels = self.images(images=images, return_tensors="pt")
        parts = text.split("<|image_pad|>")
        counts = [int(grid.prod()) // self.images.merge_size**2 for grid in pixels["image_grid_thw"]]
        whole = "".join(
            part + "<|image_pad|>" * count for part, count in zip(parts, [*counts, 0])
        )
        return dict(pixels) | {"input_ids": torch.tensor([self.tokenizer(whole)["input_ids"]])}


class Model:
    """A checkpoint in f32 and what turns text and images into its inputs."""

    def __init__(self, folder):
        options = {"dtype": torch.float32, "attn_implementation": "eager"}
        config = json.loads((folder / "config.json").read_text())
        self.tiled = config["model_type"] == "llava_next"
        self.smol = config["model_type"] in ("smolvlm", "idefics3")
        self.qwen = config["model_type"] in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
        self.multimodal = self.tiled or self.smol or self.qwen or config["model_type"] == "llava"
        if self.multimodal:
            if self.qwen:  # the family's own processor wants packages for video
                self.processor = QwenProcessor(folder)
            else:
                self.processor = AutoProcessor.from_pretrained(folder)
            self.tokenizer = self.processor.tokenizer
            self.model = AutoModelForImageTextToText.from_pretrained(folder, **options)
            self.image_token = self.model.config.image_token_id
            self.vocab_size = self.model.config.text_config.vocab_size
            if self.smol:
                self.model.model.connector.register_forward_hook(self._keep_features)
            elif not self.tiled and not self.qwen:
                projector = self.model.model.multi_modal_projector
                projector.register_forward_hook(self._keep_features)
        else:
            self.tokenizer = AutoTokenizer.from_pretrained(folder)
            self.model = AutoModelForCausalLM.from_pretrained(folder, **options)
            self.image_token = None
            self.vocab_size = config["vocab_size"]
        self.model.eval()
        self.end = config.get("eos_token_id") or config["text_config"]["eos_token_id"]
        self.features, self.deepstack = None, []

    def _keep_features(self, _module, _inputs, output):
        self.features = output.reshape(-1, output.shape[-1])

    def inputs(self, prompt, images):
        """Token ids, and the pixels, or nothing."""
        if not images:
            return self.tokenizer(prompt)["input_ids"], {}
        opened = [Image.open(path).convert("RGB") for path in images]
        inputs = self.processor(images=opened, text=prompt, return_tensors="pt")
        pixels = {"pixel_values": inputs["pixel_values"]}
        if self.qwen:
            pixels["image_grid_thw"] = inputs["image_grid_thw"]
            packed = self.model.model.get_image_features(**pixels, return_dict=True)
            self.features = torch.cat(list(packed.pooler_output))
            levels = getattr(packed, "deepstack_features", None) or []
            self.deepstack = [torch.cat(list(images)) for images in levels]
        if self.smol:
            pixels["pixel_attention_mask"] = inputs["pixel_attention_mask"]
        if self.tiled:
            pixels["image_sizes"] = inputs["image_sizes"]
            packed = self.model.model.get_image_features(**pixels, return_dict=True)
            self.features = torch.cat(list(packed.pooler_output))
        return inputs["input_ids"][0].tolist(), pixels

    @torch.no_grad()
    def logits(self, ids, pixels):
        """(positions, vocab)."""
        if getattr(self, "qwen", False) and pixels:
            types = (torch.tensor([ids]) == self.image_token).long()
            pixels = pixels | {"mm_token_type_ids": types}
        return self.model(input_ids=torch.tensor([ids]), **pixels).logits[0].float()

    def greedy(self, ids, pixels):
        """Arg-max tokens, up to an end token or a choice too close to call."""
        tokens = []
        while len(tokens) < STEPS and self.end not in tokens:
            best = self.logits(ids + tokens, pixels)[-1].topk(2)
            if best.values[0] - best.values[1] < SMALLEST_LEAD:
                break
            tokens.append(best.indices[0].item())
        return tokens


class Golden:
    """The two files while they grow."""

    def __init__(self, model, checkpoint):
        self.model, self.values = model, []
        self.offset = 0
        self.description = {
            "checkpoint": checkpoint,
            "vocab_size": model.vocab_size,
            "image_token": model.image_token,
            "cases": [],
        }

    def _store(self, tensor):
        array = tensor.detach().numpy().astype("<f4")
        place = {"offset": self.offset, "shape": list(array.shape)}
        self.values.append(array.ravel())
        self.offset += array.size
        return place

    def add(self, name, prompt, images=(), rows=None, positions=(), next_turn=None):
        model = self.model
        ids, pixels = model.inputs(prompt, [ROOT / image for image in images])
        logits = model.logits(ids, pixels)
        positions = sorted({*positions, len(ids) - 1})
        case = {"name": name, "images": list(images), "prompt": prompt, "ids": ids}
        if images:
            count = len(model.features)
            rows = range(count) if rows is None else rows
            rows = [row % count for row in rows if row < count]
            case["features"] = self._store(model.features[rows]) | {"rows": rows}
            if len(model.deepstack):
                added = torch.cat([level[rows] for level in model.deepstack])
                case["deepstack"] = self._store(added)
        case["positions"] = positions
        case["logits"] = self._store(logits[positions])
        tokens = case["greedy"] = model.greedy(ids, pixels)
        if next_turn:
            more = model.tokenizer(next_turn, add_special_tokens=False)["input_ids"]
            last = model.logits(ids + tokens + more, pixels)[-1:]
            case["next_turn"] = {"prompt": next_turn, "ids": more, "logits": self._store(last)}
        self.description["cases"].append(case)
        top = logits.abs().max()
        print(f"  {name}: {len(ids)} tokens, logits to {top:.1f}, {len(tokens)} greedy tokens")

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        lines = [f"    {json.dumps(case)}" for case in self.description.pop("cases")]
        head = json.dumps(self.description, indent=2)[:-2]
        text = f'{head},\n  "cases": [\n' + ",\n".join(lines) + "\n  ]\n}\n"
        (folder / "golden.json").write_text(text)
        np.concatenate(self.values).tofile(folder / "golden.bin")


def tiny(name):
    folder = FOLDER / name
    place = f"Tests/Golden/checkpoints/{name}"
    golden = Golden(Model(folder), place)
    if golden.model.multimodal:
        question = "What color is the star?"
        golden.add(
            "exact",
            f"USER: <image>\n{question} ASSISTANT:",
            images=[f"{place}/exact.png"],
            positions=[0],
            next_turn="USER: How many are there? ASSISTANT:",
        )
        golden.add(
            "resized",
            "USER: <image>\nDescribe the image. ASSISTANT:",
            images=[f"{place}/wide.png"],
        )
        golden.add(
            "two-pictures",
            "<image> and <image>: is the ring left of the moon?",
            images=[f"{place}/wide.png", f"{place}/exact.png"],
        )
    golden.add(
        "text",
        "USER: Is the 1st größer than the 22nd circle — yes? ASSISTANT:",
        positions=[0, 1, 5, 9],
        next_turn="USER: And now? ASSISTANT:",
    )
    golden.write(folder)


def tiled(name):
    """LLaVA-NeXT: images of four shapes, cut into tiles in different ways."""
    folder = FOLDER / name
    place = f"Tests/Golden/checkpoints/{name}"
    golden = Golden(Model(folder), place)
    question = {
        "next-vicuna": "USER: <image>\n{} ASSISTANT:",
        "next-mistral-window": "[INST] <image>\n{} [/INST]",
        "next-llama3": "<image>\n{}",
    }[name]
    for shape, text in [
        ("square", "What color is the star?"),
        ("wide", "Describe the image."),
        ("tall", "How many are there?"),
        ("flat", "Is the ring left of the moon?"),
    ]:
        golden.add(
            shape,
            question.format(text),
            images=[f"{place}/{shape}.png"],
            rows=None if shape in ("tall", "flat") else list(range(0, 200, 7)),
            next_turn="How many are there?" if shape == "square" else None,
        )
    golden.add(
        "two-pictures",
        "<image> and <image>: is the ring left of the moon?",
        images=[f"{place}/wide.png", f"{place}/square.png"],
        rows=[0, 15, 16, 40, -1],
    )
    golden.add(
        "text",
        "Is the 1st größer than the 22nd circle — yes? And is it blue, or is it the fifth of them?",
        positions=[0, 5, 30],
        next_turn="And now?",
    )
    golden.write(folder)


def smol(name):
    """SmolVLM: images of several shapes, text in front of an image, two images."""
    folder = FOLDER / name
    place = f"Tests/Golden/checkpoints/{name}"
    golden = Golden(Model(folder), place)
    question = "<|im_start|>User:<image>{}<end_of_utterance>\nAssistant:"
    for shape, text in [
        ("square", "What color is the star?"),
        ("wide", "Describe the image."),
        ("tall", "How many are there?"),
    ]:
        golden.add(
            shape,
            question.format(text),
            images=[f"{place}/{shape}.png"],
            rows=list(range(0, 160, 7)),
            next_turn="<end_of_utterance>\nUser: How many?<end_of_utterance>\nAssistant:"
            if shape == "square" else None,
        )  # fmt: skip
    golden.add(
        "two-images",
        "Compare <image> and <image>: is the ring left of the moon?",
        images=[f"{place}/wide.png", f"{place}/square.png"],
        rows=[0, 3, 4, 17, -1],
    )
    golden.add("text", "Is the 1st größer than the 22nd circle\n\n— yes?", positions=[0, 5, 9])
    golden.write(folder)


def qwen(name):
    """Qwen-VL: images of several shapes, text in front of an image, two images and text behind each."""
    folder = FOLDER / name
    place = f"Tests/Golden/checkpoints/{name}"
    golden = Golden(Model(folder), place)
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    question = "<|im_start|>user\n" + mark + "{}<|im_end|>\n<|im_start|>assistant\n"
    for shape, text in [
        ("square", "What color is the star?"),
        ("wide", "Describe the image."),
        ("tall", "How many are there?"),
    ]:
        golden.add(
            shape,
            question.format(text),
            images=[f"{place}/{shape}.png"],
            rows=list(range(0, 60, 3)),
            next_turn="<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n<|im_start|>assistant\n"
            if shape == "square" else None,
        )  # fmt: skip
    golden.add(
        "two-images",
        f"Compare {mark} and {mark}: is the ring left of the moon?",
        images=[f"{place}/wide.png", f"{place}/square.png"],
        rows=[0, 3, 4, 17, -1],
    )
    golden.add("text", "Is the 1st größer than the 22nd circle\n\n— yes?", positions=[0, 5, 9])
    golden.write(folder)


def demo():
    golden = Golden(Model(ROOT / "tools/demo/checkpoint"), "tools/demo/checkpoint")
    questions = ["What does the text say?", "What shape is the white object?", "Describe the image."]
    for image, question in zip(DEMO_IMAGES, questions):
        golden.add(
            image.removesuffix(".png"),
            f"USER: <image>\n{question} ASSISTANT:",
            images=[f"tools/demo/images/{image}"],
            rows=DEMO_ROWS,
            next_turn="USER: How many objects are there? ASSISTANT:",
        )
    golden.add("text", "USER: How many sides has a square? ASSISTANT:", positions=[0, 1, 4])
    golden.write(FOLDER / DEMO)


def main():
    names = sorted(path.parent.name for path in FOLDER.glob("*/config.json")) + [DEMO]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=names, choices=names)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        print(name)
        kind = name.split("-")[0]
        demo() if name == DEMO else {"next": tiled, "smol": smol, "qwen2": qwen, "qwen25": qwen, "qwen3": qwen}.get(kind, tiny)(name)


if __name__ == "__main__":
    main()
