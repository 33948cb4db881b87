"""The image that both programs are shown, and how pioedge is asked about it.

`pioedge bench --image` draws its own image, of the size that makes the most of a model. So the image here goes
through `pioedge run --jsonl`, whose times are taken at the same places.
"""

import json
import subprocess

import PIL.Image
import PIL.ImageOps

from blocks import is_quantized
from vocabulary import family

CONTEXT = 1024  # text rows


class Picture:
    """An image and what it comes to in both programs; `rows` has tiles, visual_tokens and text of each."""

    def __init__(self, model, path, folder):
        self.metadata = m = model.metadata
        self.path, self.options, self.note = path, [], None
        if family(m) == "smol":
            # Uncapped: the peer knows no cap.
            self.options = ["--image-tokens", "checkpoint"]
        elif family(m) == "qwen":
            self.fit(folder)
        self.macs_per_token, self.macs_per_patch = 0, 0
        for tensor in model.by_name.values():
            if is_quantized(tensor) and tensor.name.startswith(("vision.deepstack.", "projector.")):
                self.macs_per_token += tensor.rows * tensor.columns
            elif is_quantized(tensor) and tensor.name.startswith("vision."):
                self.macs_per_patch += tensor.rows * tensor.columns
        self.rows = {}

    def fit(self, folder):
        """To sizes that nobody has to round: the peer pads where pioedge and the reference stretch."""
        m, image = self.metadata, PIL.Image.open(self.path).convert("RGB")
        side = m["vision.patch_size"] * m["vision.merge"]
        columns, lines = (round(edge / side) for edge in image.size)
        size = columns * side, lines * side
        if not m["image.least_pixels"] <= size[0] * size[1] <= m["image.most_pixels"]:
            raise SystemExit(f"{self.path}: beyond the model's sizes")
        if size != image.size:
            self.note = f"the image is resized from {image.width}x{image.height} to {size[0]}x{size[1]} first"
            self.path = folder / f"{size[0]}x{size[1]}.png"
            image.resize(size, PIL.Image.Resampling.BICUBIC).save(self.path)
        # No more than this, so that the plan is not for larger images.
        self.options = ["--image-tokens", str(columns * lines)]

    def mirrored(self, folder):
        path = folder / "mirrored.png"
        PIL.ImageOps.mirror(PIL.Image.open(self.path).convert("RGB")).save(path)
        return path

    def placeholder(self):
        """What stands for the image in raw text, with the tokens that the peer puts around it."""
        return "<|vision_start|><image><|vision_end|>" if family(self.metadata) == "qwen" else "<image>"

    def prompt(self, text_rows):
        """Raw text of so many tokens around the image."""
        half = text_rows // 2
        return "A" * half + self.placeholder() + "B" * (text_rows - half)

    def ask(self, pioedge, model, threads, text_rows, times=1, **settings):
        """Reports of pioedge about the image, asked so many times in one process."""
        command = [pioedge, "run", model, "--raw", "--jsonl", "--max-tokens", "1", *self.options]
        command += ["--context", str(CONTEXT), "--threads", str(threads)]
        for name, value in settings.items():
            command += [f"--{name}", str(value)]
        line = json.dumps({"prompt": self.prompt(text_rows), "image": str(self.path)}) + "\n"
        output = subprocess.run(command, check=True, input=line * times, stdout=subprocess.PIPE, text=True)
        reports = [json.loads(line) for line in output.stdout.splitlines()]
        if "error" in reports[-1]:
            raise SystemExit(f"tools/measure/llama-cpp: pioedge: {reports[-1]['error']}")
        return reports

    def count_rows(self, report, theirs, text_rows):
        """Of a report of ours and the peer's answer; both must show the decoder the same."""
        shown, tokens = report["images"][0], report["counts"]["visual_tokens"]
        # LLaVA's raw text has a begin token more.
        begin = 0 if family(self.metadata) else 1
        text = report["counts"]["prompt_tokens"] - tokens - text_rows - begin
        self.rows = {
            "ours": {"tiles": shown["tiles"], "visual_tokens": tokens, "text": text},
            "llama.cpp": {key: theirs[key] for key in ["tiles", "visual_tokens", "text"]},
        }

    def lines(self):
        """For people, under the table."""
        lines = [f"image {self.path.name}" + (f": {self.note}" if self.note else "")]
        for name, row in self.rows.items():
            tiles = f"{row['tiles']} tile" + "s" * (row["tiles"] != 1)
            lines.append(
                f"image's rows, {name}: {row['visual_tokens']} visual tokens of {tiles}, {row['text']} of text"
            )
        counts = {(row["tiles"], row["visual_tokens"]) for row in self.rows.values()}
        if len(counts) > 1:
            lines.append("THE TWO DO NOT SHOW THE SAME: their times are of different work")
        return lines

    def encode_macs(self):
        """Multiply-adds by matrices of one encoding."""
        m, row = self.metadata, self.rows["ours"]
        if "vision.merge" in m:
            patches = row["visual_tokens"] * m["vision.merge"] ** 2
        else:
            side = m["vision.image_size"] // m["vision.patch_size"]
            patches = row["tiles"] * (side**2 + ("vision.drops_class_token" in m))
        return patches * self.macs_per_patch + row["visual_tokens"] * self.macs_per_token
