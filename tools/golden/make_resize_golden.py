#!/usr/bin/env python3
"""Makes Tests/Golden/resizes: what transformers' Qwen2-VL processor makes of images of all shapes.

    tools/golden/make_resize_golden.py

sizes.json holds, for image sizes and processors, what `smart_resize` comes to, or null where it refuses.
pixels.json and pixels.bin hold drawn images (as make_split_golden.py draws them) as `Qwen2VLImageProcessorPil` resizes
them: bytes (channel, y, x); normalised ones as the patches it hands over, f32, each frame once.
"""

import json
import pathlib

import numpy as np
import transformers
from make_split_golden import DRAWN, SIZES, drawn
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import (
    Qwen2VLImageProcessorPil,
    smart_resize,
)

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Tests/Golden/resizes"

# Pixels a side of a token, counts of pixels.
PROCESSORS = {
    "published": (28, 3136, 12_845_056),
    "class": (28, 3136, 1_003_520),
    "board": (28, 3136, 262_144),
    "authors": (28, 200_704, 1_003_520),
    "sixteens": (32, 65_536, 16_777_216),
    "small": (12, 576, 8640),
}
# Halves of a token's side round to even; counts one step around the limits; very long ones.
HALVES = [(70, 70), (98, 98), (126, 98), (42, 70), (80, 112), (144, 80), (1900, 10), (10, 1900), (200, 1), (201, 1)]
BORDERS = [(1008, 980), (1008, 1008), (1036, 980), (56, 56), (55, 56), (41, 42), (5, 5), (5, 1000), (5, 1001)]


def sizes():
    for name, (factor, least, most) in PROCESSORS.items():
        for width, height in [*SIZES, *HALVES, *BORDERS]:
            try:
                resized = list(smart_resize(height, width, factor, least, most))
            except ValueError:
                resized = None
            yield {"processor": name, "width": width, "height": height, "resized": resized}


def pixels():
    cases = [{"drawn": size, "normalized": False} for size in DRAWN]
    cases += [{"drawn": size, "normalized": True} for size in DRAWN[:3]]
    values, offset = [], 0
    for case in cases:
        normalized = case["normalized"]
        processor = Qwen2VLImageProcessorPil(
            size={"shortest_edge": 576, "longest_edge": 8640}, patch_size=6,
            do_rescale=normalized, do_normalize=normalized,
        )  # fmt: skip
        image = drawn(*case["drawn"])
        out = processor(image, return_tensors="np")
        lines, columns = (int(n) for n in out["image_grid_thw"][0][1:])
        patches = np.asarray(out["pixel_values"]).reshape(lines * columns, 3, 2, 6, 6)[:, :, 0]
        if not normalized:
            blocks = patches.reshape(lines // 2, columns // 2, 2, 2, 3, 6, 6)
            whole = blocks.transpose(4, 0, 2, 5, 1, 3, 6).reshape(3, lines * 6, columns * 6)
            patches = whole.astype(np.uint8)
        values.append(np.ascontiguousarray(patches, "<f4" if normalized else np.uint8).tobytes())
        yield case | {"lines": lines, "columns": columns, "offset": offset}
        offset += len(values[-1])
    (FOLDER / "pixels.bin").write_bytes(b"".join(values))


def write(name, head, entries):
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    head = json.dumps(head)[:-1]
    (FOLDER / name).write_text(f'{head}, "cases": [\n{lines}\n]}}\n')


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    version = {"transformers": transformers.__version__}
    processors = {
        name: {"side": side, "least": least, "most": most}
        for name, (side, least, most) in PROCESSORS.items()
    }
    write("sizes.json", version | {"processors": processors}, sizes())
    write("pixels.json", version, list(pixels()))


if __name__ == "__main__":
    main()
