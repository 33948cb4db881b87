#!/usr/bin/env python3
"""Makes Tests/Golden/tiles: what transformers' LLaVA-NeXT makes of images of all shapes.

    tools/golden/make_tile_golden.py

layouts.json holds, for image sizes and lists of resolutions: the best resolution
(`select_best_resolution`), the size on it (`get_patch_output_size`), the lines and columns of patches
that `unpad_image` leaves, and how many rows the processor says the image takes. pixels.json and
pixels.bin hold the tiles of the images of Tests/Golden/images as `LlavaNextImageProcessorPil` cuts
them: bytes (tile, channel, y, x), or f32 where normalised.
"""

import json
import pathlib

import numpy as np
import torch
import transformers
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension, load_image
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import unpad_image
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Tests/Golden/tiles"
IMAGES = ROOT / "Tests/Golden/images"
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]

# Pixels a side of a tile, pixels a side of a patch, resolutions (height, width).
GRIDS = {
    "published": (336, 14, [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]),
    "widest-first": (336, 14, [[336, 1008], [1008, 336], [672, 672], [672, 336], [336, 672]]),
    "one-tile": (336, 14, [[336, 336]]),
    "nine": (384, 16, [[384 * h, 384 * w] for h in range(1, 10) for w in range(1, 10) if h * w <= 9]),
    "odd": (42, 14, [[42, 126], [210, 42], [84, 84]]),
}
SIZES = [
    (1, 1), (2, 1), (1, 2), (3, 7), (17, 16), (100, 100), (336, 336), (337, 336), (336, 672),
    (672, 336), (671, 673), (640, 480), (480, 640), (1920, 1080), (1080, 1920), (1008, 336),
    (1009, 335), (335, 1009), (4000, 3000), (3024, 4032), (8000, 6001), (5, 400), (400, 5),
    (65500, 1), (1, 65500), (65500, 977), (977, 65500), (30000, 31), (31, 30000), (50, 149),
    (149, 50), (1000, 31), (31, 1000), (997, 499), (499, 997), (1201, 799), (333, 1000),
    (12345, 6789), (7, 5), (6000, 250), (251, 6000),
]  # fmt: skip




def layouts():
    for name, (side, patch, resolutions) in GRIDS.items():
        class Features(LlavaNextProcessor):
            def __init__(self):
                self.patch_size, self.num_additional_image_tokens = patch, 0
                self.image_processor = type("Images", (), {"image_grid_pinpoints": resolutions})()

        for width, height in SIZES:
            best = select_best_resolution((height, width), resolutions)
            image = np.broadcast_to(np.uint8(0), (3, height, width))
            resized = get_patch_output_size(image, best, ChannelDimension.FIRST)
            lines, columns = best[0] // patch, best[1] // patch
            index = torch.arange(lines * columns).view(1, lines, columns)
            left = unpad_image(index, (height, width))[0]
            rows = Features()._get_number_of_features(height, width, side, side)
            assert rows == (side // patch) ** 2 + left.shape[0] * (left.shape[1] + 1)
            first = [0, 0] if left.numel() == 0 else divmod(int(left[0, 0]), columns)
            yield {
                "grid": name, "width": width, "height": height, "best": list(best),
                "resized": list(resized), "lines": left.shape[0], "columns": left.shape[1],
                "first": list(first), "rows": rows,
            }  # fmt: skip


def pixels():
    grid = [[14, 28], [28, 14], [28, 28], [42, 14], [14, 42]]
    files = [
        "baseline.jpg", "tall.png", "flat.jpg", "small.png", "square.png", "grey.png", "alpha.png",
        "one_pixel.jpg", "portrait.png", "interlaced.png", "large.jpg", "long_orientation_8.jpg",
        "landscape_orientation_6.jpg", *(f"orientation_{n}.jpg" for n in range(1, 9)),
    ]  # fmt: skip
    cases = [{"file": file, "side": 14, "resolutions": grid, "filter": 3} for file in files]
    cases += [
        {"file": file, "side": 14, "resolutions": grid, "filter": 2}
        for file in ["baseline.jpg", "portrait.png", "small.png"]
    ]
    odd = [[42, 84], [126, 42], [84, 84]]
    cases += [{"file": "interlaced.png", "side": 42, "resolutions": odd, "filter": 3}]
    cases += [{"file": "portrait.png", "side": 14, "resolutions": grid, "filter": 3, "normalized": True}]
    values, offset = [], 0
    for case in cases:
        side, normalized = case["side"], case.setdefault("normalized", False)
        processor = LlavaNextImageProcessorPil(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side},
            resample=case["filter"], image_grid_pinpoints=case["resolutions"], image_mean=MEAN,
            image_std=STD, do_rescale=normalized, do_normalize=normalized,
        )  # fmt: skip
        image = load_image(str(IMAGES / case["file"]))
        tiles = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
        assert tiles.dtype == (np.float32 if normalized else np.uint8), tiles.dtype
        case |= {"tiles": len(tiles), "offset": offset}
        values.append(tiles.tobytes())
        offset += len(values[-1])
        yield case
    (FOLDER / "pixels.bin").write_bytes(b"".join(values))


def write(name, head, entries):
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    head = json.dumps(head)[:-1]
    (FOLDER / name).write_text(f'{head}, "cases": [\n{lines}\n]}}\n')


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    version = {"transformers": transformers.__version__}
    grids = {
        name: {"side": side, "patch": patch, "resolutions": resolutions}
        for name, (side, patch, resolutions) in GRIDS.items()
    }
    write("layouts.json", version | {"grids": grids}, layouts())
    write("pixels.json", version | {"mean": MEAN, "std": STD}, list(pixels()))


if __name__ == "__main__":
    main()
